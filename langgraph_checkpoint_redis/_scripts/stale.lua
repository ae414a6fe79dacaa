-- Finds the entries of a thread in the index of a run that never end and were made long ago.
--
-- KEYS     index of the run
-- ARGV[1]  thread id
-- ARGV[2]  milliseconds
-- Returns  the tokens of the entries that are older; '.' for an entry without a token

-- Needs: clock, entries

local MOST = 10000 -- entries that one call looks at

local INDEX, time = KEYS[1], now()
purge_entries(INDEX, time)
local tokens = {}
local oldest = redis.call(
  'ZRANGE', INDEX, integer(FAR), integer(FAR + time - ARGV[2]), 'BYSCORE', 'LIMIT', 0, MOST
)
for _, entry in ipairs(oldest) do
  if entry == ARGV[1] then
    tokens[#tokens + 1] = '.'
  elseif string.sub(entry, 1, #ARGV[1] + 1) == ARGV[1] .. '\0' then
    tokens[#tokens + 1] = string.sub(entry, #ARGV[1] + 2)
  end
end
return tokens
