"""Seeds with a history, and those that the planted bugs are found by.

What a seed stands for changes whenever the simulation draws otherwise. A bug that was found and mended is therefore
kept in two ways: by its seed here, and planted anew in `bugs`, with a seed of its own that finds it: `--pin` finds
another when days have changed.
"""

from __future__ import annotations

DAYS, DAYS_WITH_A_FILE = 40, 20
"""How many of the first seeds are run each time, with a node in memory and with one that has a file."""

FAILED = {
    301307: "an append was told that it was refused, while its first attempt still lay in the server",
    33: "a live subscription that had to wait was queued twice, and the server would have pushed everything twice",
    43: "an append with NO_STREAM was written twice: it was sent again after its stream had been deleted softly",
    114: "a live subscription that waited at the door when its session ended was never opened again",
    1601835: "an append with NO_STREAM was told that it was refused; its first attempt came late, after a soft delete",
    2006273: "of what a session left unanswered, what it had sent again came last: behind a look for what came later",
    1202281: "a subscription ended because two sessions in a row had died while it asked for one event, by chance",
}
"""Seeds that ever failed, and why."""

FOUND_BY = {
    "acked_by_the_targets_id": 11,
    "acked_with_the_groups_name": 0,
    "acks_lost_on_leaving": 17,
    "said_of_what_a_dead_session_gave": 20,
    "place_leaked_with_each_reconnect": 0,
    "more_out_than_asked_for": 0,
    "checkpoint_ahead": 0,
    "answered_before_the_commit": 1,
    "buffer_kept_across_sessions": 0,
    "heartbeats_behind_requests": 0,
    "silence_not_noticed": 0,
    "place_behind_the_door_lost": 0,
    "id_used_again": 0,
    "handed_over_after_the_end": 1,
    "last_come_first_sent": 1,
    "no_second_read": 1,
    "ended_by_chance": 0,
    "place_of_what_was_buffered": 1,
    "old_queue_beside_the_new": 1,
    "inclusive_after_reconnect": 0,
    "caught_up_twice": 0,
    "tombstone_ends_the_log": 8,
    "unbounded_mailbox": 0,
    "exclusive_after_checkpoint": 15,
    "place_told_before_its_events": 7,
    "all_that_is_pushed_matches": 16,
    "gap_told_only_once": 25,
    "deaf_after_reconnect": 0,
    "resent_with_new_ids": 0,
    "any_resent_without_looking": 6,
    "no_stream_taken_for_a_number": 141,
    "committed_after_an_error": 0,
    "committed_in_doubt": 23,
    "any_commit_sent_again": 8,
    "written_to_a_transaction_twice": 0,
    "sent_for_the_cancelled": 2,
    "doubt_forgotten": 5,
}
"""The seed that finds each planted bug."""

UNLUCKY_DAYS = (1, 12, 20, 25, 68)
"""On these days together all happens that has to."""
