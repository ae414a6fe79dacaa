-- Storing a checkpoint: the arguments of `put`, and what it does with them.
--
-- Needs: chunks, guards, refuse, rows, runs, whole
-- Within check_ancestors: ancestors
-- Within replace_old_row: replaced
-- Within tell_removals: arrived
-- Gives: ns, id, head, old_row, store_checkpoint

local FIRST_CHUNK = 12
local ns, id, head, tail = ARGV[1], ARGV[2], cmsgpack.unpack(ARGV[3]), ARGV[4]
local fields = fields_to_write_by()
local guards = care_for(ARGV[6], ARGV[7], ARGV[8], fields.ttl)
local may_lack = fields.may_lack or guards and guards.is_being_swept()

local old_row = row_at(ns, id)
local parent_row = head[PARENT] ~= '' and row_at(ns, head[PARENT]) or nil

-- What the values of unchanged channels are, by version and channel. The checkpoint itself comes
-- first: a repeated put finds there what it found in the parent, even if that is gone by now.
local kept

local function read_kept()
  kept = {}
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

-- Puts the values of unchanged channels in their places. Returns them by channel, `false` for one that has none
-- and certainly had.
local function fill_in_kept()
  local filled = {}
  local channels = head[CHANNELS]
  for i = 1, #channels, 3 do
    local entry = channels[i + 2]
    if entry and type(entry) ~= 'table' then
      if not kept then
        read_kept()
      end
      channels[i + 2] = kept[channels[i + 1] .. channels[i]] or false
      filled[channels[i]] = channels[i + 2] or entry ~= 1 and {} or false
    end
  end
  return filled
end

-- Whether an unchanged value is there. It is as long as its row is, but for one that was evicted or deleted by
-- hand; so it is looked at more closely only if there is a reason.
local function is_there(entry)
  if not entry then
    return false
  elseif may_lack then
    return lacking(function(_, visit) visit(entry) end, nil, #ARGV + 1) == ''
  end
  local top = #entry
  while top > 4 and entry[top] == '' do
    top = top - 1
  end
  return top < 4 or redis.call('HEXISTS', CHUNKS, string.sub(entry[top], -16)) == 1
end

-- What the checkpoint refers to and is not there: digests of chunks, and unchanged channels.
local function missing(filled)
  local channels = {}
  for channel, entry in pairs(filled) do
    if not is_there(entry) then
      channels[#channels + 1] = channel
    end
  end
  if not may_lack then
    return absent(ARGV[11]), channels
  end
  local function each_changed(_, visit)
    each_value(head, function(entry, channel)
      if filled[channel] == nil then
        visit(entry)
      end
    end)
  end
  return lacking(each_changed, nil, FIRST_CHUNK), channels
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
    refuse('CONFLICT', TIMELINE, head[PARENT], id_of(latest))
  end
end

-- Whether the old row of the checkpoint is rebuilt from the same ancestors: then the same may be put again, whatever
-- has become of them.
local function needed_as_much(old_head)
  local was_rebuilt = rebuilt_channels(old_head) or {}
  for channel in pairs(rebuilt_channels(head) or {}) do
    if not was_rebuilt[channel] then
      return false
    end
  end
  return old_head[PARENT] == head[PARENT]
end

-- Whether delta channels of the checkpoint may lack an ancestor. Those of the newest checkpoint of a namespace lack
-- none, unless newer ones were deleted: removals keep what it needs.
local function may_lack_ancestors()
  if not head[DELTA] or head[PARENT] == '' or head[ENDS] then
    return false
  elseif old_row then
    return not needed_as_much(head_of(old_row))
  end
  return not parent_row or parent_row ~= latest_row(ns) or fields.may_lack or is_cut_off(parent_row)
end

local function check_ancestors()
  local _, gone = needed_ancestors(ns, head)
  if gone then
    refuse('ANCESTOR', TIMELINE, ns, id, gone)
  end
end

local function replace_old_row()
  replace_checkpoint(ns, head, old_row)
end

local function tell_removals()
  note_arrival(ns, id, head, parent_row)
end

-- Stores the checkpoint, and calls prepare() before anything is changed. Returns {1, the registration of its run if the thread has no need of it, what `extend_expiry`
-- says}; or what `put` says of a checkpoint that cannot be stored so. Whatever could fail comes before the row,
-- which is all that readers go by.
local function store_checkpoint(prepare)
  if guards then
    guards.check_lease(ARGV[6])
    guards.check_checkpoint(ns, id, head)
  end
  if ARGV[9] == '1' then
    check_moved_on()
  end
  redis.call('HLEN', RUNS) -- raises an error before anything is changed, if it is no hash
  local filled = fill_in_kept()
  if may_lack_ancestors() then
    check_ancestors()
  end
  local digests, channels = missing(filled)
  if not may_lack and (digests ~= '' or channels[1]) then -- then more may be, further below
    may_lack = true
    digests, channels = missing(filled)
  end
  if digests ~= '' or channels[1] then
    return {0, digests, channels}
  end
  local run, registration = head[RUN], ARGV[10]
  local life = run and guards and guards.span_of(ARGV[7], ARGV[8]) or 0
  local token, is_lacking, score = nil, false, nil
  if run then
    token, is_lacking, score = judge_registration(run, registration, life)
  end
  if is_lacking then
    return {2, {}, {server_time()}, 3 * life}
  end
  local old_run = old_row and head_of(old_row)[RUN]
  if prepare then
    prepare()
  end
  note_rows('timeline', fields)
  store_chunks(FIRST_CHUNK)
  keep_chunks(fields)
  if guards then
    guards.mark(each_value, head)
  end
  local is_only = guards and redis.call('EXISTS', RUNS) == 0
  local is_held = count_runs(old_run, run, token)
  if is_held and guards then
    guards.note_entry(score, is_only)
  end
  local unused = registration ~= '' and not is_held and {with_tokens(run, ' ' .. registration:match('%S+'))} or {}
  if old_row then
    replace_old_row()
  end
  if head[DELTA] and redis.call('HEXISTS', CHUNKS, 'removals') == 1 then
    tell_removals()
  end
  redis.call('ZADD', TIMELINE, 0, with_checksum(prefix(ns, id) .. '\0' .. cmsgpack.pack(head) .. tail))
  if not fields.timeline then
    expire_with_rows(TIMELINE)
  end
  settle_chunks()
  if not guards then
    return {1, unused, {}, 0}
  end
  return {1, unused, guards.extend_expiry_by(ARGV[7], ARGV[8])}
end
