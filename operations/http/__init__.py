"""HTTP calls to downstreams."""
