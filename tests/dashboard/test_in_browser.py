"""The dashboard in a real browser: hostile payloads, the keyboard, live pages, no script."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from chromium import CHROMIUM, DRIVER, browser, served
from durable_workflow_sqlite import (
    Queue,
    RetryPolicy,
    WorkflowContext,
    report_progress,
    step_stream,
    workflow,
)
from tests.dashboard.conftest import approval
from tests.dashboard.test_actions import rows, signals
from tests.hostile import HOSTILE, fill
from tests.processes import an_engine

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None,
        reason="needs a browser: apt-get install chromium chromium-driver",
    ),
]


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def hostile_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "<img src=x onerror=window.ran=9>.db"
    fill(path, 10_000)
    return path


@pytest.fixture(scope="module")
def hostile_url(hostile_file: Path) -> Iterator[str]:
    with served(hostile_file) as url:
        yield url


A_FEW_OF_THEM = pytest.mark.parametrize(
    "every", [4, pytest.param(1, marks=pytest.mark.campaign)], ids=["a few", "all"]
)


def wait_for(chrome: Chrome, condition: Callable[[Chrome], Any]) -> Any:
    return WebDriverWait(chrome, 10).until(condition)


def check_that_nothing_ran(chrome: Chrome) -> None:
    """No script of a payload ran, and none of its markup became an element."""
    assert chrome.execute_script("return window.ran") is None
    found = chrome.execute_script(
        "return [...document.querySelectorAll('img, iframe, base, style, plaintext,"
        ' meta[http-equiv], main script, [onload], [onerror], form:not([action^="/"])\')]'
        ".map(one => one.outerHTML)"
    )
    assert found == []
    # Whatever the policy had to stop would stand in the log.
    assert [one["message"] for one in chrome.get_log("browser")] == []


def test_no_hostile_text_becomes_markup(chrome: Chrome, hostile_url: str) -> None:
    chrome.get(hostile_url)
    check_that_nothing_ran(chrome)
    chrome.get(hostile_url + "executions")
    check_that_nothing_ran(chrome)
    addresses = [
        one.get_attribute("href") for one in chrome.find_elements(By.CSS_SELECTOR, ".list a.id")
    ]
    assert len(addresses) == len(HOSTILE) + 2
    for address in addresses:
        assert address is not None
        chrome.get(address)
        chrome.execute_script(
            "for (const one of document.querySelectorAll('details:not([open])')) one.open = true"
        )
        assert chrome.find_elements(By.ID, "h-steps"), address
        check_that_nothing_ran(chrome)
        chrome.execute_script(
            "return Promise.all([...document.querySelectorAll('.actions a')].map(one =>"
            " fetch(one.href).then(answer => answer.text())))"
        )
        check_that_nothing_ran(chrome)


@A_FEW_OF_THEM
def test_hostile_ids_lead_to_their_own_pages(chrome: Chrome, hostile_url: str, every: int) -> None:
    chrome.get(hostile_url + "executions")
    count = len(chrome.find_elements(By.CSS_SELECTOR, ".list a.id"))
    for number in range(0, count, every):
        link = chrome.find_elements(By.CSS_SELECTOR, ".list a.id")[number]
        text = link.text
        chrome.execute_script("arguments[0].click()", link)
        wait_for(chrome, lambda c: c.find_elements(By.ID, "h-steps"))
        assert chrome.find_element(By.TAG_NAME, "h1").text == text
        assert "\u202e" not in text
        chrome.back()
        wait_for(chrome, lambda c: c.find_elements(By.CSS_SELECTOR, ".list a.id"))


@A_FEW_OF_THEM
def test_confirmations_and_payloads_of_hostile_executions_run_nothing(
    chrome: Chrome, hostile_url: str, every: int
) -> None:
    for text in HOSTILE[::every]:
        query = chrome.execute_script("return encodeURIComponent(arguments[0])", text)
        for address in (
            f"signal?id={query}&name={query}",
            f"cancel?id={query}",
            f"payload?id={query}&what=input",
            f"payload?id={query}&what=step&branch={query}&index=0&attempt=1",
            f"executions?id={query}&type={query}&begun={query}&status={query}&tag={query}",
            f"executions?id={query}&error={query}&step={query}&tag=x%3D{query}",
            f"bulk/cancel?id={query}",
            f"?failures={query}",
            f"run?id={query}",
            f"execution?id={query}&done={query}&page={query}&squeeze={query}",
            f"nothing/{query}",
        ):
            chrome.get(hostile_url + address)
            assert chrome.execute_script("return window.ran") is None
            logged = [one["message"] for one in chrome.get_log("browser")]
            assert [one for one in logged if "Failed to load resource" not in one] == []


def test_five_megabytes_and_ten_thousand_steps_are_shown_at_once(
    chrome: Chrome, hostile_url: str
) -> None:
    for address in ("execution?id=heavy", "payload?id=heavy&what=result"):
        chrome.get(hostile_url + address)
        assert "5.0 MB" in chrome.find_element(By.TAG_NAME, "main").text
        check_that_nothing_ran(chrome)
    chrome.get(hostile_url + "execution?id=long")
    assert "of 10,000" in chrome.find_element(By.TAG_NAME, "main").text
    took = chrome.execute_script(
        "const [one] = performance.getEntriesByType('navigation');"
        "return one.domContentLoadedEventEnd - one.startTime"
    )
    assert took < 3000
    check_that_nothing_ran(chrome)


def test_the_keyboard_alone_leads_from_the_list_to_a_signal(chrome: Chrome, file: Path) -> None:
    def tab_to(condition: str) -> None:
        for _ in range(80):
            ActionChains(chrome).send_keys(Keys.TAB).perform()
            if chrome.execute_script(f"const e = document.activeElement; return {condition}"):
                outline = chrome.execute_script(
                    "return getComputedStyle(document.activeElement).outlineStyle"
                )
                assert outline == "solid"  # one sees where one is
                return
        raise AssertionError(f"no Tab leads there: {condition}")

    with served(file) as url:
        chrome.get(url + "executions")
        ActionChains(chrome).send_keys(Keys.TAB).perform()
        assert chrome.switch_to.active_element.text == "Skip to the content"
        tab_to("e.matches('a.id') && e.textContent === 'waiting'")
        ActionChains(chrome).send_keys(Keys.ENTER).perform()
        wait_for(chrome, lambda c: c.find_elements(By.ID, "h-steps"))
        tab_to("e.textContent.includes('Send a signal')")
        ActionChains(chrome).send_keys(Keys.ENTER).perform()
        wait_for(chrome, lambda c: c.find_elements(By.CSS_SELECTOR, "dialog[open] form"))
        # The dialog has the focus, and Escape gives it back.
        ActionChains(chrome).send_keys(Keys.ESCAPE).perform()
        wait_for(chrome, lambda c: not c.find_elements(By.TAG_NAME, "dialog"))
        assert "Send a signal" in chrome.switch_to.active_element.text
        assert signals(file) == []
        ActionChains(chrome).send_keys(Keys.ENTER).perform()
        wait_for(chrome, lambda c: c.find_elements(By.CSS_SELECTOR, "dialog[open] form"))
        assert chrome.switch_to.active_element.get_attribute("name") == "payload"
        ActionChains(chrome).send_keys('{"by": "kim"}').perform()
        tab_to("e.textContent === 'Send the signal'")
        ActionChains(chrome).send_keys(Keys.ENTER).perform()
        wait_for(chrome, lambda c: "done=signalled" in c.current_url)
        assert signals(file) == [("waiting", "approved", '{"by": "kim"}')]


def test_without_script_every_action_has_a_page_that_asks(chrome: Chrome, file: Path) -> None:
    chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        with served(file) as url:
            chrome.get(url + "executions")
            chrome.find_element(By.NAME, "id").send_keys("wait" + Keys.ENTER)
            wait_for(chrome, lambda c: "id=wait" in c.current_url)
            chrome.find_element(By.CSS_SELECTOR, ".list a.id").click()
            wait_for(chrome, lambda c: c.find_elements(By.ID, "h-steps"))
            chrome.find_element(By.PARTIAL_LINK_TEXT, "Cancel").click()
            wait_for(chrome, lambda c: "/cancel?" in c.current_url)
            assert signals(file) == []
            chrome.find_element(By.CSS_SELECTOR, "button.danger").click()
            wait_for(chrome, lambda c: "done=cancelling" in c.current_url)
            assert signals(file) == [("waiting", "$cancel", None)]
    finally:
        chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_a_queue_gets_other_limits_and_is_paused_by_its_buttons(chrome: Chrome, file: Path) -> None:
    async def declare() -> None:
        async with an_engine(file, workflows=[]) as (_, engine):
            await engine.declare(Queue("mail", concurrency=2))

    asyncio.run(declare())
    with served(file) as url:
        chrome.get(url)
        chrome.find_element(By.LINK_TEXT, "Queues").click()
        wait_for(chrome, lambda c: c.find_elements(By.ID, "h-queues"))
        chrome.find_element(By.PARTIAL_LINK_TEXT, "Limits…").click()
        field = wait_for(chrome, lambda c: c.find_element(By.NAME, "concurrency"))
        assert field.get_attribute("value") == "2"
        field.clear()
        field.send_keys("5" + Keys.ENTER)
        wait_for(chrome, lambda c: "done=changed" in c.current_url)
        assert rows(file, "select concurrency from workflow_limits") == [(5,)]
        chrome.find_element(By.PARTIAL_LINK_TEXT, "Pause…").click()
        reason = wait_for(chrome, lambda c: c.find_element(By.NAME, "reason"))
        reason.send_keys("we move" + Keys.ENTER)
        wait_for(chrome, lambda c: c.find_elements(By.PARTIAL_LINK_TEXT, "Resume…"))
        paused = rows(file, "select name, paused_reason from workflow_pauses")
        assert paused == [("mail", "we move")]


def test_a_page_changes_when_the_file_does_and_leaves_the_rest_alone(
    chrome: Chrome, file: Path
) -> None:
    async def work() -> None:
        async with an_engine(file, workflows=[approval]) as (_, engine):
            await engine.send_signal("waiting", "approved", "kim")
            await engine.handle("waiting").result()

    with served(file) as url:
        chrome.get(url + "execution?id=waiting")
        chrome.execute_script(
            "window.stays = true;"
            "const step = document.querySelector('details.step');"
            "step.open = true; step.querySelector('summary').focus()"
        )
        asyncio.run(work())
        wait_for(chrome, lambda c: "Completed in" in c.find_element(By.CLASS_NAME, "now").text)
        assert len(chrome.find_elements(By.CSS_SELECTOR, "details.step")) == 3
        # It was not loaded anew: what is open, and where one is, is as it was.
        assert chrome.execute_script(
            "return window.stays"
            " && document.querySelector('details.step').open"
            " && document.activeElement.matches('summary')"
        )
        said = chrome.find_element(By.ID, "announcer").get_attribute("textContent")
        assert said is not None
        assert said.startswith("completed. Completed in")


def test_progress_is_seen_while_the_step_runs(chrome: Chrome, file: Path) -> None:
    goes_on, is_over = threading.Event(), threading.Event()

    @workflow
    async def copy(ctx: WorkflowContext) -> None:
        await ctx.step("photos", photos)

    def photos() -> None:
        report_progress(1, 4)
        goes_on.wait(60)
        report_progress(3, 4, "x<b>.jpg")
        is_over.wait(60)

    async def work() -> None:
        async with an_engine(file) as (_, engine):
            await engine.run(copy, execution_id="copy")

    worker = threading.Thread(target=asyncio.run, args=(work(),))
    with served(file) as url:
        worker.start()
        try:
            wait_for(chrome, lambda c: c.get(url + "execution?id=copy") or bar_of(c) == "0.25")
            chrome.execute_script("window.stays = true")
            goes_on.set()
            wait_for(chrome, lambda c: bar_of(c) == "0.75")
            section = chrome.find_element(By.CSS_SELECTOR, "[aria-labelledby=h-progress]")
            assert "3 of 4 (75 %) x<b>.jpg" in section.text
            assert chrome.execute_script("return window.stays")
        finally:
            goes_on.set()
            is_over.set()
            worker.join()


def test_a_stream_is_seen_as_it_is_written_with_its_reset_and_its_end(
    chrome: Chrome, file: Path
) -> None:
    said: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    @workflow
    async def talk(ctx: WorkflowContext) -> None:
        await ctx.step("first", lambda: step_stream().put("first word"))
        retry = RetryPolicy.fixed(max_attempts=2, delay=timedelta(0))
        await ctx.branch("left").step("say", say, retry=retry)

    def say() -> None:
        while word := said.get(timeout=60):
            if word == "fail":
                raise ConnectionError
            step_stream().put(word)

    async def work() -> None:
        async with an_engine(file) as (_, engine):
            await engine.run(talk, execution_id="talk")

    worker = threading.Thread(target=asyncio.run, args=(work(),))
    with served(file, "read_only=True") as url:
        worker.start()
        try:
            wait_for(chrome, lambda c: c.get(url + "execution?id=talk") or texts(c, "first"))
            chrome.execute_script("window.stays = true")
            chrome.get_log("browser")  # what the pages of other tests have left there
            assert texts(chrome, "first") == ["first word"]
            for number, word in enumerate(("<b>one</b>", "two", "three"), start=1):
                said.put(word)
                wait_for(chrome, lambda c, n=number: len(texts(c, "left/say")) == n)
            assert texts(chrome, "left/say") == ["<b>one</b>", "two", "three"]
            said.put("fail")
            said.put("again")
            wait_for(chrome, lambda c: texts(c, "left/say attempt 2") == ["again"])
            # The page is asked for again meanwhile, and leaves the items alone.
            wait_for(chrome, lambda c: len(c.find_elements(By.CSS_SELECTOR, "details.step")) == 2)
            assert texts(chrome, "left/say attempt 2") == ["again"]
            said.put(None)
            ended = "return document.getElementById('streams').dataset.over !== undefined"
            wait_for(chrome, lambda c: c.execute_script(ended))
            assert "it is over" in chrome.find_element(By.ID, "streams").text
            assert texts(chrome, "left/say attempt 2") == ["again"]
            assert chrome.execute_script("return window.stays")
            assert [one["message"] for one in chrome.get_log("browser")] == []
        finally:
            said.put("fail")
            said.put(None)
            worker.join()


def texts(chrome: Chrome, name: str) -> list[str]:
    """The items of the stream with this head."""
    found: list[str] = chrome.execute_script(
        "return [...document.querySelectorAll('.stream')]"
        ".filter(one => one.querySelector('h3').innerText.trim() === arguments[0])"
        ".flatMap(one => [...one.querySelectorAll('li')].map(item => item.textContent))",
        name,
    )
    return found


def bar_of(chrome: Chrome) -> str | None:
    bars = chrome.find_elements(By.TAG_NAME, "progress")
    return bars[0].get_attribute("value") if bars else None


def test_a_page_asks_little_of_a_file_that_does_not_change(chrome: Chrome, file: Path) -> None:
    with served(file) as url:
        chrome.get(url + "execution?id=waiting")
        chrome.execute_script(
            "window.changes = [];"
            "new MutationObserver(all => window.changes.push(...all.map(one =>"
            " one.target.nodeName + ' ' + one.target.textContent))).observe("
            "document.getElementById('announcer'),"
            " {childList: true, subtree: true, characterData: true})"
        )
        statuses = (
            "return performance.getEntriesByType('resource')"
            ".filter(one => one.initiatorType === 'fetch').map(one => one.responseStatus)"
        )
        wait_for(chrome, lambda c: c.execute_script(statuses).count(304) >= 2)
        assert chrome.execute_script("return window.changes") == []


def test_filters_take_effect_as_they_are_typed(chrome: Chrome, file: Path) -> None:
    with served(file) as url:
        chrome.get(url + "executions")
        field = chrome.find_element(By.NAME, "id")
        field.send_keys("un")
        wait_for(chrome, lambda c: len(c.find_elements(By.CSS_SELECTOR, ".list a.id")) == 1)
        assert chrome.current_url.endswith("?id=un")
        assert chrome.switch_to.active_element == field
        assert field.get_attribute("value") == "un"


def test_many_are_retried_from_the_list_and_the_page_follows(chrome: Chrome, outage: Path) -> None:
    with served(outage) as url:
        chrome.get(url + "executions?type=payment")
        chrome.find_element(By.CSS_SELECTOR, ".menu summary").click()
        chrome.find_element(By.LINK_TEXT, "Retry…").click()
        wait_for(chrome, lambda c: c.find_elements(By.CSS_SELECTOR, ".sample .id"))
        # The button has no focus: Enter alone does nothing to so many.
        assert chrome.switch_to.active_element.tag_name == "body"
        chrome.find_element(By.CSS_SELECTOR, "form .primary").click()
        wait_for(chrome, lambda c: "Done" in c.find_element(By.CLASS_NAME, "run-state").text)
        wait_for(chrome, lambda c: c.find_element(By.CLASS_NAME, "big").text == "7")
        said = chrome.find_element(By.ID, "main").get_attribute("data-announce")
        assert said == "Done. Retried 7"


@pytest.mark.parametrize(
    ("width", "theme"),
    [
        (360, "light"),
        (768, "dark"),
        (1280, "light"),
        *(
            pytest.param(*one, marks=pytest.mark.campaign)
            for one in ((360, "dark"), (768, "light"), (1280, "dark"))
        ),
    ],
)
def test_no_page_is_wider_than_its_window(
    width: int, theme: str, chrome: Chrome, hostile_url: str
) -> None:
    chrome.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    media = [{"name": "prefers-color-scheme", "value": theme}]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    try:
        for address in (
            "",
            "executions",
            "executions?tag=a%3Db&step=x",
            "execution?id=heavy",
            "execution?id=long",
            "cancel?id=heavy",
            "bulk/cancel",
            "queues",
            "workers",
            "schedules",
        ):
            chrome.get(hostile_url + address)
            assert chrome.execute_script("return document.documentElement.scrollWidth") <= width, (
                address
            )
    finally:
        chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.parametrize("query", ["", "?type=approval"], ids=["all", "with a filter"])
def test_twenty_rows_fit_on_a_screen(chrome: Chrome, tmp_path: Path, query: str) -> None:
    many = tmp_path / "many.db"
    asyncio.run(start_many(many))
    screen = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        with served(many) as url:
            chrome.get(f"{url}executions{query}")
            rows_seen, health = chrome.execute_script(
                "return [[...document.querySelectorAll('.list tbody tr')].filter("
                "one => one.getBoundingClientRect().bottom <= innerHeight).length,"
                " document.querySelector('.health').getBoundingClientRect().height]"
            )
            assert chrome.execute_script("return scrollY") == 0
            assert health > 0, "the line of alarms is there, too"
            assert rows_seen >= 20
    finally:
        chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


async def start_many(path: Path) -> None:
    async with an_engine(path, workflows=[approval]) as (_, engine):
        for number in range(30):
            await engine.start(approval, "plan.pdf", execution_id=f"plan-{number}")


def test_texts_can_be_read_in_both_themes(chrome: Chrome, file: Path) -> None:
    """The contrast of every text with what is behind it is 4.5 or more, as WCAG asks."""
    measure = """
      const part = (one) => { const c = one / 255;
        return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
      const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
      const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
      const drawn = (colours) => { canvas.clearRect(0, 0, 1, 1);
        for (const one of colours) { canvas.fillStyle = one; canvas.fillRect(0, 0, 1, 1); }
        return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3); };
      const known = new Map();
      const over = (colours) => { const name = colours.join();
        if (!known.has(name)) known.set(name, drawn(colours));
        return known.get(name); };
      const poor = [];
      for (const one of document.querySelectorAll('body *')) {
        const own = [...one.childNodes].some(n => n.nodeType === 3 && n.nodeValue.trim());
        if (!own || one.closest('svg, .unseen, .skip, option') || !one.checkVisibility()) continue;
        const behind = [];
        for (let at = one; at; at = at.parentElement)
          behind.unshift(getComputedStyle(at).backgroundColor);
        const ground = light(over(behind));
        const ink = light(over([...behind, getComputedStyle(one).color]));
        const ratio = (Math.max(ground, ink) + 0.05) / (Math.min(ground, ink) + 0.05);
        if (ratio < 4.5) poor.push(one.className + ' ' + one.textContent.slice(0, 30) + ratio);
      }
      return poor
    """
    try:
        with served(file) as url:
            for theme in ("light", "dark"):
                media = [{"name": "prefers-color-scheme", "value": theme}]
                chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
                for address in (
                    "",
                    "executions?status=FAILED",
                    "bulk/retry",
                    "execution?id=undone",
                    "execution?id=waiting",
                    "cancel?id=waiting",
                ):
                    chrome.get(url + address)
                    assert chrome.execute_script(measure) == [], (theme, address)
    finally:
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
