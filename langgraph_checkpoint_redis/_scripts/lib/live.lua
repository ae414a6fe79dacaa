-- Marks of a sweep of several calls: what it has found to be in use so far. The members of the set LIVE are
-- digests of chunks, `of:` with the token of the removal, and `sweep:` with its token and its pass. While there
-- is such a set, whoever adds a row adds what the row refers to.
--
-- A sweep frees only while its own pass is in LIVE. If LIVE has expired or was evicted, it begins again.
--
-- Needs: closure, keys, slices
-- Gives: EXPIRY, is_marked, leave_marks, is_being_swept

local EXPIRY = 60000 -- milliseconds; only so that an abandoned sweep leaves nothing behind

-- The marks of a pass lead on to all that they refer to, so nothing below a marked node is visited again.
local function is_marked(digest)
  return redis.call('SISMEMBER', LIVE, digest) == 1
end

-- Adds what is wanted, with all that it refers to, to LIVE. Only a pass that is continued trusts the marks there:
-- others may have marked a node that was not in CHUNKS then.
local function leave_marks(is_continued, ...)
  expand(1, nil, is_continued and is_marked)
  local marks = {...}
  for _, digests in pairs(seen) do
    for digest in pairs(digests) do
      marks[#marks + 1] = digest
    end
  end
  call_with_all('SADD', LIVE, marks)
end

local function is_being_swept()
  return redis.call('EXISTS', LIVE) == 1
end
