"""The serializer that remembers messages, so that none is written or validated twice."""
