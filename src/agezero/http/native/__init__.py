"""The native API: purges of many selectors, what becomes of them, events, the audit. Errors are RFC 9457 problem details."""
