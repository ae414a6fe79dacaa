-- Corrects how many checkpoints runs have in a thread, if nothing has changed since they were counted.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  the token of the caller's lease, or empty
-- ARGV[2]  the state of the thread when its checkpoints were counted, as scan.lua returned it
-- ARGV[3...] of each run: its id; its number as stored then, or empty; and its number as counted
-- Returns  1 if all are corrected, or 0

-- Needs: run_counts, control, clock, keys, lease, state, runs

read_control()
check_lease(ARGV[1])
if state_of_thread() ~= ARGV[2] then
  return 0
end

local function stored_number(run)
  local count, tokens = read_run(run)
  return tokens and integer(count) or ''
end

for i = 3, #ARGV, 3 do
  local stored = stored_number(ARGV[i])
  if stored ~= ARGV[i + 1] and stored ~= ARGV[i + 2] then
    return 0
  end
end
local is_new = redis.call('EXISTS', RUNS) == 0 -- it was lost
for i = 3, #ARGV, 3 do
  local _, tokens = read_run(ARGV[i])
  write_run(ARGV[i], tonumber(ARGV[i + 2]), tokens or '')
end
if is_new then
  expire_runs_with_rows()
end
return 1
