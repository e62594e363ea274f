//! What every OAuthing service shares: configuration, telemetry, listeners, graceful stop.
