-- Chunks that a write brings along.
--
-- They follow as pairs (digest, content) from ARGV[first]; the first `nodes` of them are nodes,
-- whose children must be in the thread as well. So a row whose references all exist is complete.

local function chunks_sent(first, nodes)
  local sent, references = {}, {}
  for i = first, #ARGV, 2 do
    sent[ARGV[i]] = true
    if i < first + 2 * nodes then
      references[#references + 1] = string.sub(ARGV[i + 1], 2)
    end
  end
  return sent, references
end

local function references_of(entry, references)
  for i = 4, #entry do
    references[#references + 1] = entry[i]
  end
end

-- While the thread is swept, only what is known to be live counts: the sweep may have freed what a
-- chunk refers to, and be about to free the chunk.
local function all_present(references, sent, is_swept)
  for _, digests in ipairs(references) do
    for i = 1, #digests, 16 do
      local digest = string.sub(digests, i, i + 15)
      if not sent[digest] then
        if redis.call('HEXISTS', CHUNKS, digest) == 0 then
          return false
        elseif is_swept and redis.call('SISMEMBER', LIVE, digest) == 0 then
          return false
        end
      end
    end
  end
  return true
end

local function store_chunks(first)
  for i = first, #ARGV, 1000 do -- an even number, so that no pair is cut
    redis.call('HSET', CHUNKS, unpack(ARGV, i, math.min(i + 999, #ARGV)))
  end
end
