"""Seeds with a history, and those that the planted bugs are found by.

What a seed stands for changes whenever the simulation draws otherwise. A bug that was found and mended is therefore
kept in two ways: by its seed here, and planted anew in `bugs`, with a seed of its own that finds it.
"""

from __future__ import annotations

FAILED = {
    301307: "an append was told that it was refused, while its first attempt still lay in the server",
    33: "a live subscription that had to wait was queued twice, and the server would have pushed everything twice",
    43: "an append with NO_STREAM was written twice: it was sent again after its stream had been deleted softly",
    114: "a live subscription that waited at the door when its session ended was never opened again",
}
"""Seeds that ever failed, and why."""

FOUND_BY = {
    "no_second_read": 2,
    "place_of_what_was_buffered": 9,
    "old_queue_beside_the_new": 9,
    "inclusive_after_reconnect": 5,
    "caught_up_twice": 1,
    "tombstone_ends_the_log": 12,
    "unbounded_mailbox": 0,
    "exclusive_after_checkpoint": 17,
    "gap_told_only_once": 80,
    "deaf_after_reconnect": 4,
    "resent_with_new_ids": 2,
    "any_resent_without_looking": 22,
    "no_stream_taken_for_a_number": 27,
    "committed_after_an_error": 1,
    "written_to_a_transaction_twice": 43,
    "sent_for_the_cancelled": 43,
    "doubt_forgotten": 2,
    "buffer_kept_across_sessions": 8,
    "heartbeats_behind_requests": 2,
    "silence_not_noticed": 3,
    "place_behind_the_door_lost": 2,
    "id_used_again": 2,
    "handed_over_after_the_end": 44,
    "last_come_first_sent": 66,
}
"""The seed that finds each planted bug."""
