-- The runs of a thread: each with the number of its checkpoints here, and with the tokens of the entries by
-- which the index of runs leads here, as 'count token token'. `_core/run_index.py` says why this is safe.
--
-- A run without checkpoints stays, with a count of 0, until its entries are removed from the index; so a
-- removal that is repeated finds it again. Older versions stored the count alone, and entries without a
-- token: the token '.' stands for them.
--
-- Needs: keys
-- Gives: read_run, each_run, with_tokens, find_runs_here

-- Returns the count and the tokens, each with a space before it; 0 and nil for a run that is not here.
local function read_run(run)
  local value = redis.call('HGET', RUNS, run)
  if not value then
    return 0, nil
  end
  local count, tokens = string.match(value, '^(-?%d+)(.*)$')
  return tonumber(count), tokens == '' and ' .' or tokens
end

-- Calls visit(run, count, tokens) for every run.
local function each_run(visit)
  for _, run in ipairs(redis.call('HKEYS', RUNS)) do
    visit(run, read_run(run))
  end
end

-- Returns a run with tokens of its entries, as one string.
local function with_tokens(run, tokens)
  return run .. '\0' .. tokens
end

-- Returns the runs that have checkpoints here: with their tokens, or alone.
local function find_runs_here(with)
  local here = {}
  each_run(function(run, count, tokens)
    if count > 0 then
      here[#here + 1] = with and with_tokens(run, tokens) or run
    end
  end)
  return here
end
