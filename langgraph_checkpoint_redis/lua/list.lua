-- Reads a page of checkpoints, newest first: by descending id, then by ascending namespace.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  1 for one namespace, 0 for all
-- ARGV[2]  that namespace
-- ARGV[3], ARGV[4]  where the page before ended: checkpoint id, namespace
-- ARGV[5]  rows in a page
-- ARGV[6]  1 for whole checkpoints, 0 for their rows alone
-- ARGV[7]  the levels of ropes whose chunks the caller knows
-- Returns  {more, rows, digests, groups}: more is 1 when there are older checkpoints; the rest is
--          as in get.lua, but where only rows are asked for, they are {row, 0, {}}

-- include rows
-- include whole
-- include namespaces
-- include slices
-- include closure
-- include reply

local after_id, after_ns = ARGV[3], ARGV[4]
local page, whole = tonumber(ARGV[5]), ARGV[6] == '1'

check_whole()
local namespaces = {}
if ARGV[1] == '1' then
  namespaces[1] = ARGV[2]
else
  each_namespace(function(ns)
    namespaces[#namespaces + 1] = ns
  end)
end
local batch = math.ceil(page / math.max(#namespaces, 1))

-- One namespace's rows in order, fetched a few at a time.
local function rows_of(ns)
  local upper = '(' .. ns .. '\0' .. after_id .. (is_before(after_ns, ns) and '\1' or '')
  local rows, next_row = {}, 1
  return function()
    if next_row > #rows then
      rows = redis.call('ZREVRANGEBYLEX', TIMELINE, upper, '[' .. ns .. '\0', 'LIMIT', 0, batch)
      next_row = 2
      upper = rows[1] and '(' .. rows[#rows]
      return rows[1]
    end
    next_row = next_row + 1
    return rows[next_row - 1]
  end
end

local sources = {}
for _, ns in ipairs(namespaces) do
  local advance = rows_of(ns)
  local row = advance()
  if row then
    sources[#sources + 1] = {id = id_of(row), row = row, advance = advance}
  end
end

-- The newest row of all sources; namespaces come in ascending order, so the first of equals wins.
local function take_newest()
  local newest
  for _, source in ipairs(sources) do
    if source.row and (not newest or is_before(newest.id, source.id)) then
      newest = source
    end
  end
  if not newest then
    return nil
  end
  local row = newest.row
  newest.row = newest.advance()
  newest.id = newest.row and id_of(newest.row)
  return row
end

-- The caller knows all that these levels lead to: older versions of a value refer to it directly.
for _, levels in ipairs(cmsgpack.unpack(ARGV[7])) do
  for i, digests in ipairs(levels) do
    want(i - 1, digests)
  end
end
expand(1)
wanted[0] = {}

local rows = {}
local row = take_newest()
while row and #rows < page and bytes < BUDGET do
  rows[#rows + 1] = whole and whole_row(row) or {row, 0, {}}
  row = take_newest()
end
return {row and 1 or 0, rows, fetched()}
