-- Tells which rows are of no use, and which keys are lost, or removes the rows and accepts the loss.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  the token of the caller's lease, or empty
-- ARGV[2]  1 to remove them, 0 to tell only
-- ARGV[3...] of each row: 1 for the timeline or 2 for the writes; the row; and why: empty if the caller
--          cannot read it, 'orphan' if its checkpoint is not there, or what it lacks, each chunk by its
--          digest and the SHA-1 of what is in its place, in hexadecimal digits, or '-' 40 times; of a
--          lost key: 3, its name as in whole.lua, and empty
-- Returns  for each of them 1 if it is so, or 0; if it was to be mended, 1 also if it is so no more

-- Needs: lease, sweep, closure, arrived, keys, control, whole, rows

local MISSING = string.rep('-', 40)

local in_place = {} -- what is in the place of a chunk, as rows that lack the same one ask for it again

local function found_in_place_of(digest, expected)
  if not in_place[digest] then
    if expected == MISSING then
      return redis.call('HEXISTS', CHUNKS, digest) == 0 and MISSING or ''
    end
    local chunk = redis.call('HGET', CHUNKS, digest)
    in_place[digest] = chunk and redis.sha1hex(chunk) or MISSING
  end
  return in_place[digest]
end

local function lacks(chunks)
  for i = 1, #chunks, DIGEST + 40 do
    local expected = string.sub(chunks, i + DIGEST, i + DIGEST + 39)
    if found_in_place_of(string.sub(chunks, i, i + DIGEST - 1), expected) == expected then
      return true
    end
  end
  return false
end

local function is_lost(name)
  for _, lost in ipairs(lost_keys(fields_of(CHUNKS), OWN_KEYS)) do
    if lost == name then
      return true
    end
  end
  return false
end

local function is_there(key, row)
  return redis.call('ZLEXCOUNT', key, '[' .. row, '[' .. row) == 1
end

local function is_of_no_use(row, why)
  if why == 'orphan' then
    return row_exists(split_row(row)) == 0
  end
  return why == '' or lacks(why)
end

-- The writes of a checkpoint go with it, unless there is another of its name: then it was damaged there.
local function drop_checkpoint(row, why)
  note('lost') -- so that nothing is taken for rebuilt from it without a look
  if why ~= '' then
    remove_checkpoint(row)
    return
  end
  redis.call('ZREM', TIMELINE, row)
  begin_removals_again()
  local named, ns, id = pcall(split_row, row)
  if named and row_exists(ns, id) == 0 then
    remove_writes(ns, id)
  end
end

read_control()
local removes = ARGV[2] == '1'
if removes then
  check_lease(ARGV[1])
end

local function look_at_key(name)
  local is_so = is_lost(name)
  if is_so and removes then
    accept_loss(name)
  end
  return (is_so or removes) and 1 or 0
end

local function look_at_row(key, row, why)
  local there = is_there(key, row)
  local useless = there and is_of_no_use(row, why)
  if useless and removes and key == TIMELINE then
    drop_checkpoint(row, why)
  elseif useless and removes then
    redis.call('ZREM', WRITES, row)
  end
  local is_gone = removes and not there
  return (useless or is_gone) and 1 or 0
end

local found = {}
note_removal(function()
  for i = 3, #ARGV, 3 do
    local kind, what, why = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2]
    found[#found + 1] = kind == 3 and look_at_key(what) or look_at_row(KEYS[kind], what, why)
  end
end)
return found
