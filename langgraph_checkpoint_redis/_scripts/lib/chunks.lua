-- Chunks that a write brings along, and chunks that it relies on. The former are pairs of arguments, a digest and a
-- content: from `args[first]` on, where `args` are the arguments of the script.
--
-- A write names all chunks that the new row, or the nodes with it, refer to and that do not come along. Where a
-- node is there, what it refers to is there as well, but for two cases (see whole.lua), and while a sweep is
-- under way: then a write is looked through down to its last chunk. So it is where one chunk is missing, to say
-- at once which others are.
--
-- Needs: keys
-- Gives: find_absent, find_lacking, store_chunks, settle_chunks, keep_chunks

-- Returns the digests of the chunks that are not there, of some chunks. They are one string.
local function find_absent(digests)
  local found = {}
  for i = 1, #digests, 16 do
    local digest = string.sub(digests, i, i + 15)
    if redis.call('HEXISTS', CHUNKS, digest) == 0 then
      found[#found + 1] = digest
    end
  end
  return table.concat(found)
end

-- Returns all chunks that a row lacks, of those that its entries lead to; `each` calls a function for its entries.
-- Without `args`, nothing comes along.
local function find_lacking(each, row, args, first)
  local brought, levels, seen, found = {}, {}, {}, {}
  for i = first or 1, args and #args or 0, 2 do
    brought[args[i]] = args[i + 1]
  end
  local function add(level, digests, start)
    levels[level], seen[level] = levels[level] or {}, seen[level] or {}
    for i = start, #digests - 15, 16 do
      local digest = string.sub(digests, i, i + 15)
      if not seen[level][digest] then
        seen[level][digest] = true
        table.insert(levels[level], digest)
      end
    end
  end
  local top = 0
  each(row, function(entry)
    for i = 4, #entry do
      add(i - 4, entry[i], 1)
      top = math.max(top, i - 4)
    end
  end)
  for level = top, 1, -1 do
    for _, digest in ipairs(levels[level] or {}) do
      local node = brought[digest] or redis.call('HGET', CHUNKS, digest)
      if node then
        add(level - 1, node, 2)
      else
        found[#found + 1] = digest
      end
    end
  end
  for _, digest in ipairs(levels[0] or {}) do
    if not brought[digest] and redis.call('HEXISTS', CHUNKS, digest) == 0 then
      found[#found + 1] = digest
    end
  end
  return table.concat(found)
end

local function store_chunks(args, first)
  for i = first, #args, 1000 do -- an even number, so that no pair is cut
    redis.call('HSET', CHUNKS, unpack(args, i, math.min(i + 999, #args)))
  end
end

-- Lets chunks stay that came ahead in this transaction (see ahead.lua), now that the row is stored.
local function settle_chunks(came_ahead)
  if came_ahead then
    redis.call('HDEL', CHUNKS, 'ahead')
  end
end

-- Lets chunks stay that came ahead of the first row of a thread.
local function keep_chunks(fields)
  if not (fields.timeline or fields.writes or fields.is_unknown) then
    redis.call('PERSIST', CHUNKS)
  end
end
