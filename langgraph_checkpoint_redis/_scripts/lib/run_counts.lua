-- Changing the runs of a thread: counting their checkpoints, and holding the tokens of their entries.
--
-- Needs: tokens, clock, keys, runs
-- Gives: write_run, is_good, judge_registration, expire_runs_with_rows, count_runs, find_runs_gone

local FRESH = 12 * 60 * 60 * 1000 -- milliseconds for which a new entry may wait for its first checkpoint
local MOST_TOKENS = 4

local function write_run(run, count, tokens)
  redis.call('HSET', RUNS, run, integer(count) .. tokens)
end

-- Returns whether a registration, 'token score', is good for a thread that lives `life` milliseconds; 0 is for ever.
-- One that waited for too long is not: its entry may be gone.
local function is_good(score, life)
  local time = now()
  if score >= FAR then
    return math.abs(time - (score - FAR)) < FRESH
  end
  return life > 0 and score >= time + 2 * life
end

-- Returns what a registration, or none, is worth for a checkpoint of a run: the token to hold, or nil; and
-- whether the run cannot go without.
local function judge_registration(run, registration, life)
  local count = read_run(run)
  local token, score = string.match(registration, '^(%S+) (%d+)$')
  if token and is_good(tonumber(score), life) then
    return token, false, tonumber(score)
  end
  return nil, count <= 0
end

-- Lets the key, where it has just begun to count, live as long as the rows do: CONTROL, which has the deadline as
-- well, may be evicted. `find_runs_gone` gives it another time.
local function expire_runs_with_rows()
  local left = math.max(redis.call('PTTL', TIMELINE), redis.call('PTTL', WRITES))
  if left > 0 then
    redis.call('PEXPIRE', RUNS, left)
  else
    redis.call('PERSIST', RUNS)
  end
end

-- Counts a checkpoint that goes over from one run (or none) to another, whose new entry has a token (or nil).
-- Returns whether the thread holds this token from now on.
local function count_runs(from, to, token)
  if from and from ~= to then
    local count, tokens = read_run(from)
    if tokens then
      write_run(from, count - 1, tokens)
    end
  end
  if not to then
    return false
  end
  local count, tokens = read_run(to)
  tokens = tokens or ''
  local is_held = token and has_token(tokens, token)
  local _, number = string.gsub(tokens, ' ', '')
  if token and not is_held and (count <= 0 or number < MOST_TOKENS) then
    tokens, is_held = tokens .. ' ' .. token, true
  end
  local is_new = count <= 0
  if from ~= to or is_new then
    count = math.max(count, 0) + 1
  end
  write_run(to, count, tokens)
  if is_new then
    expire_runs_with_rows()
  end
  return is_held
end

-- Returns the runs that have no checkpoint here, with their tokens. They do not outlive the thread by more than a day.
local function find_runs_gone()
  local gone = {}
  each_run(function(run, count, tokens)
    if count <= 0 then
      gone[#gone + 1] = with_tokens(run, tokens)
    end
  end)
  if gone[1] and redis.call('EXISTS', TIMELINE, WRITES, CHUNKS) == 0 then
    redis.call('PEXPIRE', RUNS, 2 * FRESH)
  end
  return gone
end
