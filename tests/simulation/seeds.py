"""Seeds with a history, and those that the planted bugs are found by.

What a seed stands for changes whenever the simulation draws otherwise. A bug that was found and mended is therefore
kept in two ways: by its seed here, and planted anew in `bugs`, with a seed of its own that finds it.
"""

from __future__ import annotations

FAILED = {
    49: "the writer sent what was handed to it when its session had just ended, under no id",
    200677: "a live subscription that waited at the door to be asked again was forgotten when that session ended",
    101329: "what was not handled was asked again past the door, and more was in flight than may be",
    100259: "an append with NO_STREAM was written twice: its stream was soft-deleted before it was sent again",
}
"""Seeds that ever failed, and why."""

FOUND_BY = {
    "no_second_read": 2,
    "place_of_what_was_buffered": 15,
    "old_queue_beside_the_new": 15,
    "inclusive_after_reconnect": 15,
    "caught_up_twice": 0,
    "tombstone_ends_the_log": 6,
    "unbounded_mailbox": 0,
    "gap_told_only_once": 39,
    "deaf_after_reconnect": 8,
    "resent_with_new_ids": 8,
    "any_resent_without_looking": 22,
    "sent_for_the_cancelled": 35,
    "refusal_believed": 39,
    "doubt_forgotten": 1,
    "buffer_kept_across_sessions": 8,
    "heartbeats_behind_requests": 2,
    "silence_not_noticed": 3,
    "place_behind_the_door_lost": 2,
    "id_used_again": 2,
    "handed_over_after_the_end": 20,
    "last_come_first_sent": 26,
}
"""The seed that finds each planted bug."""
