// What the pages do by themselves. Without it they still work: links, forms and confirmations are plain HTML.
"use strict";

(() => {
  const root = document.documentElement;
  const THEMES = ["auto", "light", "dark"];
  const THEME = "durable-workflow-theme";

  const stored = (() => {
    try { return localStorage.getItem(THEME) ?? "auto"; } catch { return "auto"; }
  })();
  const setTheme = (theme) => {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
  };
  setTheme(stored);  // before the first paint
  root.classList.add("scripted");

  // Pages come from our own server, which escapes what it shows; a parsed page runs no script.
  const policy = window.trustedTypes?.createPolicy("dashboard", { createHTML: (html) => html });
  const parse = (html) =>
    new DOMParser().parseFromString(policy ? policy.createHTML(html) : html, "text/html");

  document.addEventListener("DOMContentLoaded", () => {
    themes();
    times();
    live();
    filters();
    dialogs();
    menus();
  });

  function themes() {
    const button = document.getElementById("theme-toggle");
    const word = document.getElementById("theme-word");
    let theme = THEMES.includes(stored) ? stored : "auto";
    word.textContent = theme;
    button.hidden = false;
    button.addEventListener("click", () => {
      theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
      setTheme(theme);
      word.textContent = theme;
      try { localStorage.setItem(THEME, theme); } catch { /* then for this page only */ }
    });
  }

  // "3 min ago" stays true. The same words as the server's.
  function times() {
    const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
    const refresh = () => {
      for (const time of document.querySelectorAll("time[data-ago]")) {
        const seconds = (Date.now() - Date.parse(time.dateTime)) / 1000;
        const [unit, length] = UNITS.find(([, one]) => Math.abs(seconds) >= one) ?? ["s", 0];
        const count = length ? Math.floor(Math.abs(seconds) / length) : 0;
        const text = !count ? "just now" : seconds > 0 ? `${count} ${unit} ago` : `in ${count} ${unit}`;
        if (time.textContent !== text) time.textContent = text;
      }
    };
    setInterval(refresh, 1000);
  }

  // Live pages: the same address is asked for again, and the server says "not modified" as long as
  // nothing was written to the file. What did change is put in place; the rest is left alone.

  const STEADY_MS = 1000;
  let etag = null;
  let asked = 0;

  function live() {
    const main = document.getElementById("main");
    if (main.dataset.live === undefined) return;
    etag = main.dataset.live;
    const button = document.getElementById("live-toggle");
    const word = document.getElementById("live-word");
    let isOn = true;
    let failures = 0;
    const show = () => {
      button.setAttribute("aria-pressed", String(isOn));
      button.classList.toggle("is-away", isOn && failures > 1);
      word.textContent = !isOn ? "Paused" : failures > 1 ? "No answer" : "Live";
    };
    button.hidden = false;
    button.addEventListener("click", () => { isOn = !isOn; show(); });

    const ask = async () => {
      const began = performance.now();
      streams(isOn);
      if (isOn && !document.hidden && !document.querySelector("dialog[open]")) {
        try {
          await update(location.href);
          failures = 0;
        } catch { failures += 1; }
        show();
      }
      // A page that is dear to make is asked for less often.
      const took = performance.now() - began;
      setTimeout(ask, Math.max(STEADY_MS, 5 * took) * Math.min(2 ** failures, 30));
    };
    setTimeout(ask, STEADY_MS);
    streams(isOn);
    document.addEventListener("visibilitychange", () => {
      streams(isOn);
      if (isOn && !document.hidden) update(location.href).catch(() => {});
    });
  }

  async function update(address, { isNew = false } = {}) {
    const mine = ++asked;
    const headers = { "x-dashboard-part": "main" };
    if (etag && !isNew) headers["if-none-match"] = etag;
    const response = await fetch(address, { headers, cache: "no-store", credentials: "same-origin" });
    if (mine !== asked) return;
    if (response.status === 401) { location.reload(); return; }
    if (response.status === 304) { etag = response.headers.get("etag") ?? etag; return; }
    if (!response.ok && response.status !== 404) throw new Error(String(response.status));
    const page = parse(await response.text());
    const after = page.getElementById("main");
    if (mine !== asked || !after) return;
    const before = document.getElementById("main");
    const said = before.dataset.announce;
    etag = response.headers.get("etag");
    morph(before, after);
    const healthy = page.getElementById("health"), health = document.getElementById("health");
    if (healthy && health) morph(health, healthy);
    document.title = page.title;
    const says = after.dataset.announce;
    if (says && says !== said) document.getElementById("announcer").textContent = says;
  }

  // Make one element like another and touch nothing that is alike, so that focus, selection, opened
  // details and typed text stay as they are.
  function morph(before, after) {
    if (before.isEqualNode(after) || before === followed?.box) return;
    for (const { name } of [...before.attributes]) {
      if (!after.hasAttribute(name) && !(name === "open" && before.localName === "details")) {
        before.removeAttribute(name);
      }
    }
    for (const { name, value } of after.attributes) {
      if (before.getAttribute(name) !== value) before.setAttribute(name, value);
    }
    const keyOf = (node) => node.dataset?.key;
    const coming = new Set([...after.children].map(keyOf));
    const keyed = new Map();
    for (const child of [...before.children]) {
      const key = keyOf(child);
      if (key === undefined) continue;
      if (coming.has(key)) keyed.set(key, child);
      else child.remove();
    }
    let old = before.firstChild;
    for (const next of [...after.childNodes]) {
      const key = keyOf(next);
      const same = key === undefined ? findLike(old, next) : keyed.get(key);
      if (!same || !isLike(same, next)) {
        before.insertBefore(document.importNode(next, true), old);
        continue;
      }
      if (key === undefined) {
        // What stands between has no place any more. It goes, since what is moved loses the focus.
        while (old !== same) { const gone = old; old = old.nextSibling; gone.remove(); }
      }
      if (same === old) old = old.nextSibling;
      else before.insertBefore(same, old);
      if (same.nodeType === Node.ELEMENT_NODE) morph(same, next);
      else if (same.nodeValue !== next.nodeValue) same.nodeValue = next.nodeValue;
    }
    while (old) { const gone = old; old = old.nextSibling; gone.remove(); }
  }

  // The place for a node, among those from `old` on that have no key. A text is looked for right here.
  function findLike(old, next) {
    if (next.nodeType !== Node.ELEMENT_NODE) return old && isLike(old, next) ? old : null;
    for (let one = old; one && one.dataset?.key === undefined; one = one.nextSibling) {
      if (isLike(one, next)) return one;
    }
    return null;
  }

  // By attribute: a form's own `id` may be hidden by a field of that name.
  const isLike = (one, other) =>
    one.nodeName === other.nodeName
    && one.getAttribute?.("id") === other.getAttribute?.("id")
    && one.classList?.[0] === other.classList?.[0];

  // The streams of an execution: items come as they are written, while somebody looks. A browser has
  // few connections to one server, so a page that nobody sees gives its own back.
  const MOST_ITEMS = 500;
  let followed = null;

  function streams(isOn) {
    const box = document.getElementById("streams");
    const isWanted = box && isOn && !document.hidden && box.dataset.over === undefined;
    if (followed && (!isWanted || followed.box !== box || followed.source.readyState === 2)) {
      followed.source.close();
      followed = null;
    }
    if (!isWanted || followed) return;
    const source = new EventSource(box.dataset.from);
    followed = { box, source };
    const on = (kind, act) => source.addEventListener(kind, (event) => act(JSON.parse(event.data)));
    on("begin", () => { for (const one of box.querySelectorAll(".stream")) one.remove(); });
    on("reset", (one) => {
      const stream = streamOf(box, one);
      stream.querySelector("ul").replaceChildren();
      stream.querySelector("h3 span").textContent = `attempt ${one.attempt}`;
    });
    on("item", (one) => {
      const list = streamOf(box, one).querySelector("ul");
      const isAtEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 4;
      const item = document.createElement("li");
      item.textContent = one.text;
      list.append(item);
      while (list.children.length > MOST_ITEMS) list.firstChild.remove();
      if (isAtEnd) list.scrollTop = list.scrollHeight;
    });
    on("end", () => {
      box.dataset.over = "";
      box.querySelector(".section-head span").textContent = "it is over";
      source.close();
      followed = null;
    });
  }

  function streamOf(box, one) {
    let stream = [...box.querySelectorAll(".stream")].find((it) => it.dataset.place === one.place);
    if (!stream) {
      stream = document.createElement("div");
      stream.className = "panel stream";
      stream.dataset.place = one.place;
      const head = document.createElement("h3"), name = document.createElement("bdi");
      const attempt = document.createElement("span"), list = document.createElement("ul");
      name.textContent = one.name;
      attempt.className = "muted";
      if (one.attempt > 1) attempt.textContent = `attempt ${one.attempt}`;
      list.tabIndex = 0;
      list.setAttribute("aria-label", `Items of ${one.name}`);
      head.append(name, " ", attempt);
      stream.append(head, list);
      box.append(stream);
    }
    return stream;
  }

  // Filters take effect as they are typed. The address follows, so it can be sent to somebody.
  function filters() {
    const form = document.getElementById("filters");
    if (!form) return;
    let waiting = 0;
    const apply = () => {
      const query = new URLSearchParams();
      for (const [name, value] of new FormData(form)) if (value) query.append(name, value);
      const text = query.toString();
      const address = form.getAttribute("action") + (text ? `?${text}` : "");
      history.replaceState(null, "", address);
      update(address, { isNew: true }).catch(() => {});
    };
    form.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(apply, 200); });
    form.addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(waiting); apply(); });
  }

  // A menu closes when something else is done.
  function menus() {
    const close = (but) => {
      for (const menu of document.querySelectorAll("details.menu[open]")) {
        if (menu !== but) menu.open = false;
      }
    };
    document.addEventListener("click", (event) => close(event.target.closest?.("details.menu")));
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") close(null); });
  }

  // Confirmations are pages of their own; here they come as a dialog over the page.
  function dialogs() {
    document.addEventListener("click", async (event) => {
      const link = event.target.closest?.("a[data-dialog]");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
      event.preventDefault();
      try {
        const response = await fetch(link.href, { cache: "no-store", credentials: "same-origin" });
        const card = parse(await response.text()).querySelector(".card");
        if (!response.ok || !card) throw new Error(String(response.status));
        open(document.importNode(card, true));
      } catch { location.assign(link.href); }
    });
  }

  function open(card) {
    const dialog = document.createElement("dialog");
    dialog.setAttribute("aria-labelledby", "confirm-title");
    dialog.append(card);
    document.body.append(dialog);
    dialog.addEventListener("close", () => dialog.remove());
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog || event.target.closest("[data-close]")) {
        event.preventDefault();
        dialog.close();
      }
    });
    dialog.showModal();
    (card.querySelector("[autofocus]") ?? card.querySelector("button"))?.focus();
  }
})();
