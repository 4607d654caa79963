"""What tests of programs that use this library need: docs/testing.md.

The fixtures `event_store` and `event_store_connection` come by themselves where pytest-trio is installed.
"""

from trio_extreme.testing.checkpoint_kit import check_checkpoints
from trio_extreme.testing.opening import connect_to_event_store, open_event_store
from trio_extreme.testing.recording import recorded

__all__ = ["check_checkpoints", "connect_to_event_store", "open_event_store", "recorded"]
