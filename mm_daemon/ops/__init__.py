"""The window: control API, console, metrics, alerts, logs, lease and permit. Never the decision."""
