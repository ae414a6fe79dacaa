-- Checkpoints and chunks as readers get them.
--
-- Needs: whole, closure, rows, keys
-- Sets: wanted
-- Gives: BUDGET, digests, groups, bytes, allow_truncation, truncated, fetch, writes_at, read_row, get_fetched

-- A reply ends early when it holds this many bytes of chunks, so that no script runs for long.
local BUDGET = 4 * 1024 * 1024

local digests, groups, bytes = {}, {}, 0

local function add_to_reply(new_digests, chunks)
  digests[#digests + 1] = new_digests
  groups[#groups + 1] = chunks
  for _, chunk in ipairs(chunks) do
    bytes = bytes + (chunk and #chunk or 0)
  end
end

-- What a script reads costs it some twenty times what it costs a command. So where there are many pieces, or
-- large ones, it may leave them to the caller, who asks for them by a command.
local MANY, LARGE = 256, 256 * 1024 -- pieces; bytes in the pieces of a value that has no nodes
local MANY_NODES = 1000 -- of one level

local allow_truncation, truncated = false, 0

local function want_value(entry)
  if allow_truncation and #entry == 4 and entry[3] > LARGE then
    truncated = 1
  else
    want_entry(entry)
  end
end

-- Adds what is wanted to the reply, level by level. From a level on that has too many chunks, all are left.
local function fetch_some()
  local top = 0
  for level in pairs(wanted) do
    top = math.max(top, level)
  end
  for level = top, 0, -1 do
    if wanted[level] and #wanted[level] > (level > 0 and MANY_NODES or MANY) then
      truncated, wanted = 1, {}
      for each in pairs(seen) do
        wanted[each] = {}
      end
      return
    end
    expand(level, add_to_reply)
  end
end

-- Adds what is wanted to the reply.
local function fetch()
  if allow_truncation then
    fetch_some()
  else
    expand(0, add_to_reply)
  end
end

local function writes_at(ns, id)
  local key = prefix(ns, id)
  return redis.call('ZRANGEBYLEX', WRITES, '[' .. key .. '\0', '(' .. key .. '\1')
end

-- {row, has_parent, writes}, and fetches what it is made of.
local function read_row(row)
  local ns, id, offset = split_row(row)
  local head = unpack_row(TIMELINE, row, offset)
  local writes = writes_at(ns, id)
  if not writes[1] and redis.call('EXISTS', WRITES) == 0 then
    check_whole()
  end
  each_value(head, want_value)
  for _, write in ipairs(writes) do
    each_write(groups_of(write), want_value)
  end
  fetch()
  local has_parent = head[PARENT] ~= '' and row_exists(ns, head[PARENT]) or 0
  return {row, has_parent, writes}
end

-- Returns all chunks in groups: the digests of each group as one string, and its chunks in the same order.
-- A chunk that is missing is nil there: whoever needs it says so, knowing what for.
local function get_fetched()
  return digests, groups
end
