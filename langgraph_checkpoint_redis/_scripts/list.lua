-- Reads the rows of a page of checkpoints, newest first: by descending id, then by ascending namespace.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  which namespaces, as a packed list; empty for all, if they are few
-- ARGV[2], ARGV[3]  where the page before ended: checkpoint id, namespace
-- ARGV[4], ARGV[5]  where other namespaces go on: checkpoint id, namespace; both empty if there are none
-- ARGV[6]  rows in a page
-- ARGV[7]  1 for checkpoints with their writes, 0 for their rows alone
-- ARGV[8]  1 for all rows that there are, 0 without those that were cut off, and older ones
-- Returns  {more, rows, heads}: more is 1 when there are older checkpoints in these namespaces, or -1 when
--          there are too many namespaces to find them here; a row is {row, has_parent, writes}, or
--          {row, 0, {}}; heads has the namespaces that go on, each followed by the id of its next row

-- Needs: whole, rows, keys

-- Namespaces that are looked for here, and bytes of rows that end a page.
local FEW, BYTES = 50, 1024 * 1024

check_whole()
local after_id, after_ns, until_id, until_ns = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local page, with_writes, takes_all, bytes = tonumber(ARGV[6]), ARGV[7] == '1', ARGV[8] == '1', 0

-- Returns the namespaces of the thread, or nil if there are more than FEW.
local function find_namespaces()
  local found = {}
  local row = redis.call('ZRANGEBYLEX', TIMELINE, '-', '+', 'LIMIT', 0, 1)[1]
  while row do
    if #found == FEW then
      return nil
    end
    local ns = split_row(row)
    found[#found + 1] = ns
    row = redis.call('ZRANGEBYLEX', TIMELINE, '[' .. ns .. '\1', '+', 'LIMIT', 0, 1)[1]
  end
  return found
end

local namespaces
if ARGV[1] == '' then
  namespaces = find_namespaces()
  if not namespaces then
    return {-1, {}, {}}
  end
else
  namespaces = cmsgpack.unpack(ARGV[1])
end

-- Returns whether a row is kept for newer ones only. The newest of its namespace is listed nevertheless: where newer
-- ones were deleted, it is the latest.
local function is_hidden(ns, row)
  return not takes_all and is_cut_off(row) and row ~= latest_row(ns)
end

-- One namespace's rows in order, fetched a few at a time, more of them as long as they are small.
local function rows_of(ns)
  local upper = '(' .. ns .. '\0' .. after_id .. (is_before(after_ns, ns) and '\1' or '')
  local rows, next_row, batch = {}, 1, 1
  return function()
    if next_row > #rows then
      rows = redis.call('ZREVRANGEBYLEX', TIMELINE, upper, '[' .. ns .. '\0', 'LIMIT', 0, batch)
      next_row = 1
      upper = rows[1] and '(' .. rows[#rows]
      batch = rows[1] and #rows[#rows] < 8192 and math.min(2 * batch, page) or 1
      if not upper then
        return nil
      end
    end
    next_row = next_row + 1
    local row = rows[next_row - 1]
    return not is_hidden(ns, row) and row or nil
  end
end

local sources = {}
for _, ns in ipairs(namespaces) do
  local advance = rows_of(ns)
  local row = advance()
  if row then
    sources[#sources + 1] = {ns = ns, id = id_of(row), row = row, advance = advance}
  end
end

local function comes_before(id, ns, other_id, other_ns)
  return is_before(other_id, id) or (id == other_id and is_before(ns, other_ns))
end

-- Returns the source with the newest row; nil if there is none, or if other namespaces come first.
local function newest_source()
  local newest
  for _, source in ipairs(sources) do
    if source.row and (not newest or comes_before(source.id, source.ns, newest.id, newest.ns)) then
      newest = source
    end
  end
  if newest and until_id ~= '' and not comes_before(newest.id, newest.ns, until_id, until_ns) then
    return nil
  end
  return newest
end

local function writes_at(ns, id)
  local key = prefix(ns, id)
  return redis.call('ZRANGEBYLEX', WRITES, '[' .. key .. '\0', '(' .. key .. '\1')
end

local function read_row(source)
  local parent = head_of(source.row)[PARENT]
  local has_parent = parent ~= '' and row_exists(source.ns, parent) or 0
  local writes = writes_at(source.ns, source.id)
  for _, write in ipairs(writes) do
    bytes = bytes + #write
  end
  return {source.row, has_parent, writes}
end

local rows = {}
local source = newest_source()
while source and #rows < page and bytes < BYTES do
  rows[#rows + 1] = with_writes and read_row(source) or {source.row, 0, {}}
  bytes = bytes + #source.row
  source.row = source.advance()
  source.id = source.row and id_of(source.row)
  source = newest_source()
end

local heads = {}
for _, each in ipairs(sources) do
  if each.row then
    heads[#heads + 1] = each.ns
    heads[#heads + 1] = each.id
  end
end
return {#heads > 0 and 1 or 0, rows, heads}
