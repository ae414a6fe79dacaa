-- What a sweep of several calls has found to be live so far: the members of the set LIVE are digests
-- of chunks, and the sweep's token behind 'sweep:'. While there is such a set, whoever adds a row adds
-- what it refers to. It goes some time after a sweep that was abandoned.

local ABANDONED = 60000 -- milliseconds

-- Adds what is wanted, with all that it refers to, to LIVE.
local function leave_marks(token)
  expand(1)
  local marks = {token and 'sweep:' .. token}
  for _, digests in pairs(seen) do
    for digest in pairs(digests) do
      marks[#marks + 1] = digest
    end
  end
  call_with_all('SADD', LIVE, marks)
  if token then
    redis.call('PEXPIRE', LIVE, ABANDONED)
  end
end

local function is_being_swept()
  return redis.call('EXISTS', LIVE) == 1
end
