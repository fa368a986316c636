"""The page on what can go wrong: a test produces each of its lines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "troubleshooting.md"

# The test that produces each line, in the order of the page.
PRODUCED_BY: Final = (
    "test_what_is_not_undone_is_an_error_of_doctor",
    "test_the_views_have_both",
    "test_what_a_person_has_dealt_with_is_off_the_lists_and_never_run_again",
    "test_a_step_that_asks_is_named_by_the_tools_and_answered_by_command",
    "test_doctor_says_which_questions_are_open_and_which_are_overdue",
    "test_fail_raises_in_the_workflow_function_and_on_each_replay",
    "test_a_row_is_an_answer_and_one_that_fits_nothing_is_refused",
    "test_steps_that_a_finished_body_left_in_the_middle_are_cut_off",
    "test_what_nothing_undoes_is_listed_until_somebody_acknowledges_it",
    "test_what_a_thread_returns_after_its_timeout_is_undone",
    "test_a_sync_action_is_waited_for_and_then_undone",
    "test_the_command_of_a_group_is_about_that_group",
    "test_retry_runs_a_failed_order_from_its_failed_step",
    "test_a_deleted_row_stops_the_execution_and_is_named",
    "test_what_can_no_longer_be_undone_stops_the_execution_instead_of_failing_it",
    "test_with_another_prompt_a_replay_stops",
    "test_a_patch_that_is_deprecated_stops_what_needs_the_old_way",
    "test_it_is_refused_by_its_name_and_the_execution_is_left_as_it_is",
    "test_a_function_may_catch_it_and_go_on_and_the_log_warns_of_it_once",
    "test_one_that_was_stopped_can_be_cancelled_and_is_undone",
    "test_a_function_that_exits_stops_its_execution_and_nothing_else",
    "test_the_error_names_the_step_that_lacks_its_await",
    "test_a_stuck_workflow_says_at_which_line",
    "test_a_forgotten_await_stops_the_execution_and_mended_code_goes_on",
    "test_the_log_warns_of_a_step_that_never_began_since_its_workflow_ended_well",
    "test_a_class_that_is_gone_is_an_error_and_an_alias_brings_it_back",
    "test_a_type_that_does_not_come_back_is_refused_before_the_action_runs",
    "test_a_step_whose_result_is_too_large_fails_at_once",
    "test_a_workflow_that_blocks_the_event_loop_is_named_with_its_line",
    "test_in_another_running_loop",
    "test_a_fork_is_told_to_open_its_own",
    "test_what_the_child_raised_is_told_and_the_parent_may_go_on",
    "test_a_child_that_is_deleted_wakes_its_parent",
    "test_a_wait_for_a_child_is_named_as_such_and_the_hint_is_to_look_at_the_child",
    "test_an_id_that_another_execution_has_stops_the_parent_and_it_goes_on_once_it_is_free",
    "test_continue_as_new_must_be_returned",
    "test_the_log_advises_to_continue_as_new_once_in_a_run",
    "test_doctor_says_what_is_wrong_with_a_schedule",
    "test_a_schedule_whose_clock_was_far_ahead_is_named_and_the_hint_of_doctor_corrects_it",
    "test_doctor_says_what_is_wrong_with_a_schedule",
    "test_a_schedule_says_when_it_last_did_not_fire",
    "test_one_that_waits_for_a_slot_says_so_and_who_has_held_one_longest",
    "test_who_sends_what_does_not_fit_is_refused_and_nothing_is_written",
    "test_a_refused_signal_is_named_until_one_that_fits_has_come",
    "test_a_signal_without_its_json_says_what_is_missing_and_is_not_sent",
    "test_signals_that_nothing_will_take_are_named",
    "test_a_mistake_is_refused_and_says_which_rule_it_breaks",
    "test_so_many_may_hang_and_then_they_count",
    "test_the_log_says_what_has_the_threads_if_none_comes_free",
    "test_a_machine_that_has_no_thread_to_give_fails_no_step",
    "test_a_step_that_exits_has_failed",
    "test_what_only_the_library_may_do_is_refused",
    "test_a_function_that_takes_too_long_has_done_nothing",
    "test_a_function_that_goes_on_after_its_timeout_is_named",
    "test_autocommit_is_refused_without_a_transaction",
    "test_ctrl_c_while_it_waits_for_a_thread_ends_the_program_and_says_what_is_left",
    "test_a_worker_leaves_a_step_behind_that_does_not_end",
    "test_the_log_says_at_debug_that_one_is_parked",
    "test_an_outcome_that_is_missing_stops_the_worker",
    "test_one_that_is_not_registered_is_not_claimed_and_is_reported",
    "test_every_command_says_what_is_paused_since_when_by_whom_and_why",
    "test_a_dead_worker_with_claims_is_shown_as_dead",
    "test_the_command_exits_with_1_and_doctor_names_what_is_missing",
    "test_who_lives_without_the_version_that_waits_is_said_with_the_command",
    "test_a_queue_is_a_warning_where_all_slots_are_in_use_for_long",
    "test_a_queue_that_no_living_worker_serves_is_named",
    "test_a_queue_that_is_full_for_long_names_who_holds_its_slot",
    "test_a_paused_queue_is_named_once_something_has_waited_in_it_for_long",
    "test_a_limit_that_steps_name_and_nobody_declares_is_named",
    "test_limits_are_shown_and_changed",
    "test_doctor_names_suspects_how_often_and_what_to_do",
    "test_an_execution_that_kills_every_worker_is_blocked_and_can_be_released",
    "test_an_input_that_the_code_cannot_read_stops_it_in_trouble_and_it_can_be_cancelled",
    "test_a_step_that_a_worker_has_is_not_resolved",
    "test_a_value_that_does_not_fit_stops_it_in_trouble_until_it_is_resolved_again",
    "test_what_is_not_undone_stands_and_is_not_done_twice",
    "test_what_is_undone_is_not_taken_for_done_unless_somebody_gives_its_result",
    "test_an_edit_that_leads_another_way_is_refused_where_the_code_is_known",
    "test_an_edit_that_leads_another_way_is_refused_where_the_code_is_known",
    "test_a_lock_that_is_held_too_long_is_a_busy_error_and_harms_nothing_else",
    "test_a_disk_that_is_full_is_waited_out",
    "test_what_a_step_did_is_kept_until_the_store_takes_it",
    "test_a_disk_that_becomes_read_only_loses_nothing",
    "test_a_damaged_file_is_a_store_error",
    "test_a_deleted_row_stops_the_execution_and_is_named",
    "test_a_row_deleted_by_hand_blocks_the_execution_until_it_is_restored",
    "test_an_execution_that_nothing_brings_further_is_an_error",
    "test_doctor_finds_what_was_changed_by_hand",
    "test_a_file_that_is_gone_takes_no_writes",
    "test_a_log_that_is_deleted_stops_the_engine_and_a_new_one_goes_on",
    "test_a_backup_that_is_restored_beside_its_worker_stops_the_engine_and_a_new_one_goes_on",
    "test_workers_of_the_file_stop_and_those_of_the_server_end_its_work",
    "test_nothing_is_opened_that_is_half_moved",
    "test_what_needs_a_session_is_refused_behind_a_pooler",
    "test_what_is_missing_or_edited_is_named_and_made_again",
    "test_a_newer_file_is_refused",
    "test_the_database_of_another_application_is_refused",
    "test_what_cannot_be_started_is_refused_and_nothing_is_there",
    "test_an_execution_that_cannot_be_decoded_is_left_as_it_is",
    "test_doctor_says_which_keys_are_missing",
    "test_a_value_that_was_changed_or_copied_does_not_decode",
    "test_a_command_shows_values_with_the_key_and_encrypted_without",
    "test_a_file_that_others_may_read_or_write_is_refused",
    "test_no_file_is_created_unless_it_is_wanted",
    "test_a_file_that_is_not_there_is_said_with_what_named_it",
    "test_without_a_terminal_nothing_is_done_without_a_yes",
    "test_those_that_refuse_are_named_and_the_others_done",
    "test_trouble_with_the_file_ends_it_and_says_how_far_it_came",
    "test_a_question_that_was_forgotten_is_asked_anew",
    "test_those_that_refuse_stand_in_groups_with_why",
    "test_a_file_that_is_gone_ends_it_and_is_not_created",
    "test_a_filter_that_makes_no_sense_chooses_nobody",
)


def test_a_test_produces_each_line() -> None:
    lines = [
        line
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and not line.startswith("| you see")
    ]
    assert len(lines) == len(PRODUCED_BY) >= 40
    tests = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", file.read_text(encoding="utf-8"))
    }
    assert set(PRODUCED_BY) - tests == set()
