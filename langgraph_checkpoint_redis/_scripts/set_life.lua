-- Says how long a thread lives, whatever savers say.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  the token of the caller's lease, or empty
-- ARGV[2]  milliseconds that the thread lives after its last use; 0: for ever; empty: as savers say
-- ARGV[3]  what the caller says then, 0 for nothing
-- ARGV[4...] runs with the tokens of entries that never end
-- Returns  {found, runs, lifetime}: found is 0 when there is no thread, and 2 when nothing was done since
--          the entries of these runs may end before the thread; else the runs whose entries have
--          to be renewed, and for how many milliseconds

-- Needs: keys, life, control, lease, runs

local function all_stay()
  local stay = {}
  for i = 4, #ARGV do
    stay[ARGV[i]] = true
  end
  for _, run in ipairs(find_runs_here(true)) do
    if not stay[run] then
      return false
    end
  end
  return true
end

read_control()
if redis.call('EXISTS', TIMELINE, WRITES) == 0 then
  return {0, {}, 0}
end
redis.call('HLEN', RUNS) -- raises an error before anything is changed, if it is no hash
check_lease(ARGV[1])
local own = ARGV[2] ~= '' and ARGV[2] or nil
if tonumber(own or ARGV[3]) > 0 then
  set_own_ttl(own)
  return {1, extend_expiry(ARGV[3])}
elseif control.indexed and not all_stay() then
  return {2, find_runs_here(true), 0}
end
forget_life()
for i = 1, 4 do
  redis.call('PERSIST', KEYS[i])
end
set_own_ttl(own)
keep_control()
return {1, {}, 0}
