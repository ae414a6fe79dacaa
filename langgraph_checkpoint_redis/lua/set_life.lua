-- Says how long a thread lives, whatever savers say.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  the token of the caller's lease, or empty
-- ARGV[2]  milliseconds that the thread lives after its last use; 0: for ever; empty: as savers say
-- ARGV[3]  what the caller says then, 0 for nothing
-- Returns  {found, runs, lifetime}: found is 0 when there is no thread; the runs whose index has to be
--          renewed, and for how many milliseconds, 0 for ever

-- include refuse
-- include control
-- include lease
-- include life

if redis.call('EXISTS', KEYS[1], KEYS[2]) == 0 then
  return {0, {}, 0}
end
check_lease(ARGV[1])
local all_runs = redis.call('HKEYS', KEYS[4])
forget_life()
for i = 1, 4 do
  redis.call('PERSIST', KEYS[i])
end
if ARGV[2] ~= '' then
  set_control('ttl', ARGV[2])
end
local _, lifetime = live_on(ARGV[3])
keep_control() -- last: without a deadline, nothing in it has a meaning, and it goes
return {1, all_runs, lifetime}
