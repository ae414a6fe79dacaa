-- Sums up what is stored of a thread.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1], ARGV[2]  stage and position: 'timeline' and empty at first, then as returned
-- ARGV[3]  how many rows this call may visit
-- Returns  {stage, position, namespaces, writes, value_bytes, thread}: an empty stage at the end; of each
--          namespace that this call came by, {namespace, checkpoints, oldest id, newest id}; how many
--          writes it came by; how many bytes of chunks the values that it came by would take, were each
--          version of each stored by itself; thread is empty but for the end, then
--          {exists, runs, bytes, pinned, ttl, lease}, with the number of runs, the bytes of each key,
--          and the milliseconds until the thread expires and its lease ends; what is not known, or
--          not there, is -1

-- Needs: pages, clock, keys, control, lease, whole, rows
-- Sets: position, steps

-- How many members of a key the server weighs, the others being estimated: it takes it a millisecond.
local SAMPLES = 5000

local stage, namespaces, writes, value_bytes = ARGV[1], {}, 0, 0
position, steps = ARGV[2], tonumber(ARGV[3])

local function count_value(entry)
  value_bytes = value_bytes + (entry[3] and entry[3] - #entry[2] or 0)
end

-- The values of the namespace that were counted; the row before names those that stay the same.
local namespace, counted

local function each_version(row, offset, visit)
  local channels = unpack_row(TIMELINE, row, offset)[CHANNELS]
  for i = 1, #channels, 3 do
    if channels[i + 2] then
      visit(channels[i + 1] .. channels[i], channels[i + 2])
    end
  end
end

-- Returns the checkpoint id of a row, and the offset behind it.
local function enter_namespace(row)
  local ns, id, offset = split_row(row)
  if ns ~= namespace then
    namespace, counted = ns, {}
  end
  return id, offset
end

local function count_checkpoint(row)
  local id, offset = enter_namespace(row)
  local last = namespaces[#namespaces]
  if last and last[1] == namespace then
    last[2], last[4] = last[2] + 1, id
  else
    namespaces[#namespaces + 1] = {namespace, 1, id, id}
  end
  each_version(row, offset, function(version, entry)
    if not counted[version] then
      counted[version] = true
      count_value(entry)
    end
  end)
end

local function count_writes(row)
  each_write(groups_of(row), function(entry)
    writes = writes + 1
    count_value(entry)
  end)
end

local function bytes_of(key)
  local bytes = redis.pcall('MEMORY', 'USAGE', key, 'SAMPLES', SAMPLES)
  if type(bytes) == 'table' then -- the server does not allow it
    return -1
  end
  return bytes or 0
end

local function describe_thread()
  local bytes = {}
  for i, key in ipairs(KEYS) do
    bytes[i] = bytes_of(key)
  end
  local exists = redis.call('EXISTS', TIMELINE, WRITES)
  if exists < 2 then
    check_whole()
  end
  local is_pinned = control.ttl == '0' and 1 or 0
  local ttl = control.deadline and time_of('deadline') - now() or -1
  local lease = has_lease() and time_of('until') - now() or -1
  return {math.min(exists, 1), redis.call('HLEN', RUNS), bytes, is_pinned, ttl, lease}
end

read_control()
if stage == 'timeline' then
  if position ~= '' then
    local _, offset = enter_namespace(position)
    each_version(position, offset, function(version)
      counted[version] = true
    end)
  end
  if walk(TIMELINE, count_checkpoint) then
    stage, position = 'writes', ''
  end
end
if stage == 'writes' and walk(WRITES, count_writes) then
  return {'', '', namespaces, writes, value_bytes, describe_thread()}
end
return {stage, position, namespaces, writes, value_bytes, {}}
