-- Chunks that a write brings along, as pairs (digest, content) from ARGV[first]; and those that must be there.
--
-- The caller names all chunks that the new row or the nodes with it refer to, and that do not come along. So
-- a row is complete if these are present.

-- Whether some chunks are, by their digests in one string. While the thread is swept, only what is known to
-- be live counts: the sweep may have freed what a chunk refers to, and be about to free the chunk.
local function are_present(digests, is_swept)
  for i = 1, #digests, 16 do
    local digest = string.sub(digests, i, i + 15)
    if redis.call('HEXISTS', CHUNKS, digest) == 0 then
      return false
    elseif is_swept and redis.call('SISMEMBER', LIVE, digest) == 0 then
      return false
    end
  end
  return true
end

local function store_chunks(first)
  for i = first, #ARGV, 1000 do -- an even number, so that no pair is cut
    redis.call('HSET', CHUNKS, unpack(ARGV, i, math.min(i + 999, #ARGV)))
  end
end
