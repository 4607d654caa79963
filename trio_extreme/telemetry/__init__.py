"""Traces by OpenTelemetry, with the extra `otel`: `conn = instrument(conn)`. docs/observability.md has the names."""

try:
    import opentelemetry.trace as _  # noqa: F401 - found out here, once for all modules of this package
except ImportError as error:
    msg = "trio_extreme.telemetry needs the package opentelemetry-api: pip install 'trio-extreme[otel]'"
    raise ImportError(msg) from error

from trio_extreme.telemetry.connection import TracedConnection, instrument

__all__ = ["TracedConnection", "instrument"]
