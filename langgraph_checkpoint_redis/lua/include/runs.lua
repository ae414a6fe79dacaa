-- The runs of a thread, each with the number of its checkpoints here. One that has none left stays,
-- with a 0, until the index of runs is cleared; so a removal that is repeated finds it again.

-- Counts a checkpoint that goes over from one run (or none) to another. Returns whether it is the only one
-- of that run here.
local function count_runs(from, to)
  if from == to then
    return to and redis.call('HGET', RUNS, to) == '1'
  end
  if from then
    redis.call('HINCRBY', RUNS, from, -1)
  end
  return to and redis.call('HINCRBY', RUNS, to, 1) == 1
end

local function runs_gone()
  local gone = {}
  local runs = redis.call('HGETALL', RUNS)
  for i = 1, #runs, 2 do
    if runs[i + 1] == '0' then
      gone[#gone + 1] = runs[i]
    end
  end
  return gone
end
