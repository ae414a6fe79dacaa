-- Storing a checkpoint: the arguments of `put`, and what it does with them.

local FIRST_CHUNK = 12
local ns, id, head, tail = ARGV[1], ARGV[2], cmsgpack.unpack(ARGV[3]), ARGV[4]
local care = care_for(ARGV[6], ARGV[7], ARGV[8])

-- What the values of unchanged channels are, by version and channel. The checkpoint itself comes
-- first: a repeated put finds there what it found in the parent, even if that is gone by now.
local old_row = row_at(ns, id)
local kept

local function read_kept()
  kept = {}
  local parent_row = head[PARENT] ~= '' and row_at(ns, head[PARENT])
  for _, row in ipairs({old_row or false, parent_row or false}) do
    if row then
      local channels = head_of(row)[CHANNELS]
      for i = 1, #channels, 3 do
        local name = channels[i + 1] .. channels[i]
        kept[name] = kept[name] or channels[i + 2]
      end
    end
  end
end

-- Whether the value of a row is there. It is as long as the row is, but where the server evicts keys.
local function is_there(entry)
  return #entry < 4 or redis.call('HEXISTS', CHUNKS, string.sub(entry[#entry], -16)) == 1
end

-- Puts the values of unchanged channels in their places. Returns whether none is missing.
local function fill_in_kept()
  local channels = head[CHANNELS]
  for i = 1, #channels, 3 do
    local entry = channels[i + 2]
    if entry and type(entry) ~= 'table' then
      if not kept then
        read_kept()
      end
      local known = kept[channels[i + 1] .. channels[i]]
      channels[i + 2] = known or false
      if entry == 1 and not (known and is_there(known)) then
        return false
      end
    end
  end
  return true
end

-- Raises an error if the namespace has moved on past the checkpoint's parent.
local function check_moved_on()
  local latest = latest_row(ns)
  if latest and not old_row and is_before(head[PARENT], id_of(latest)) then
    error('THREADMOVEDON ' .. KEYS[1] .. ' ' .. head[PARENT] .. ' ' .. id_of(latest))
  end
end

-- Returns whether the checkpoint was stored; the registration of its run, if the thread has no need of it; and
-- what `live_on` says. Without a registration that the run needs, returns 2, the server's time, and for
-- how many milliseconds the run must be registered. Whatever could fail comes before the row, which is all
-- that readers go by.
local function store_checkpoint()
  if care then
    care.check_lease(ARGV[6])
    care.check_checkpoint(ns, id, head)
  end
  if ARGV[9] == '1' then
    check_moved_on()
  end
  if not fill_in_kept() or not are_present(ARGV[11], care and care.is_being_swept()) then
    return 0, {}, {}, 0
  end
  local run, registration = head[RUN], ARGV[10]
  local life = run and care and care.span_of(ARGV[7], ARGV[8]) or 0
  local token, is_lacking, score = nil, false, nil
  if run then
    token, is_lacking, score = judge_registration(run, registration, life)
  end
  if is_lacking then
    return 2, {}, {server_time()}, 3 * life
  end
  local old_run = old_row and head_of(old_row)[RUN]
  store_chunks(FIRST_CHUNK)
  if care then
    care.mark(each_value, head)
  end
  local is_only = care and redis.call('EXISTS', RUNS) == 0
  local is_held = count_runs(old_run, run, token)
  if is_held and care then
    care.note_entry(score, is_only)
  end
  local unused = registration ~= '' and not is_held and {with_tokens(run, ' ' .. registration:match('%S+'))} or {}
  if old_row then
    redis.call('ZREM', TIMELINE, old_row)
  end
  redis.call('ZADD', TIMELINE, 0, sealed(prefix(ns, id) .. '\0' .. cmsgpack.pack(head) .. tail))
  if not care then
    return 1, unused, {}, 0
  end
  return 1, unused, care.live_on_by(ARGV[7], ARGV[8])
end
