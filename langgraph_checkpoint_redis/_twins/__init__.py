"""The names that each saver has of the other half, derived: `aget_tuple` of `RedisSaver`, say."""
