-- Storing a checkpoint: the arguments of `put`, and what it does with them.

local FIRST_CHUNK = 11
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

-- Whether `id` is a checkpoint that goes on from `ancestor`, as far as the next parents tell: each takes some
-- 20 microseconds.
local function goes_on_from(ancestor, id)
  for _ = 1, 250 do
    local row = id ~= ancestor and row_at(ns, id)
    if not row then
      return id == ancestor
    end
    id = head_of(row)[PARENT]
  end
  return false
end

-- Raises an error if the namespace has moved on past the checkpoint's parent. It has not where the parent goes
-- on from the latest checkpoint: the clock behind the ids was ahead then. It has not where the latest belongs to
-- the same step of the root graph either: a subgraph may be called several times in it. Of two runs that do the
-- same step, the root's namespace refuses one.
local function check_moved_on()
  local latest = latest_row(ns)
  if not latest or old_row or not is_before(head[PARENT], id_of(latest)) then
    return
  end
  local is_same_step = head[ROOT] and head_of(latest)[ROOT] == head[ROOT]
  if not is_same_step and not goes_on_from(id_of(latest), head[PARENT]) then
    error('THREADMOVEDON ' .. KEYS[1] .. ' ' .. head[PARENT] .. ' ' .. id_of(latest))
  end
end

-- Returns whether the checkpoint was stored, whether it is the only one of its run in this thread, and what
-- `live_on` says. Whatever could fail comes before the row, which is all that readers go by.
local function store_checkpoint()
  if care then
    care.check_lease(ARGV[6])
    care.check_checkpoint(ns, id, head)
  end
  if ARGV[9] == '1' then
    check_moved_on()
  end
  if not fill_in_kept() or not are_present(ARGV[10], care and care.is_being_swept()) then
    return 0, 0, {}, 0
  end
  local old_run = old_row and head_of(old_row)[RUN]
  store_chunks(FIRST_CHUNK)
  if care then
    care.mark(each_value, head)
  end
  local run_is_new = count_runs(old_run, head[RUN])
  if old_row then
    redis.call('ZREM', TIMELINE, old_row)
  end
  redis.call('ZADD', TIMELINE, 0, sealed(prefix(ns, id) .. '\0' .. cmsgpack.pack(head) .. tail))
  if not care then
    return 1, run_is_new and 1 or 0, {}, 0
  end
  return 1, run_is_new and 1 or 0, care.live_on_by(ARGV[7], ARGV[8])
end
