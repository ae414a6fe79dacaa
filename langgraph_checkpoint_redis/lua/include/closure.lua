-- The closure of values: every chunk that they are made of, each once.
--
-- An entry is {type, literal} or {type, literal, size, level0, level1, ...}, where a level is a
-- string of 16-byte digests. Digests of level 0 name pieces of a value; those of a higher level
-- name nodes, whose content is again a string of digests, of one level less. Every chunk begins with
-- a byte that says how it is stored; nodes are stored as they are.

local DIGEST = 16

local wanted, seen = {}, {}

local function want(level, digests, first)
  if not seen[level] then
    seen[level], wanted[level] = {}, {}
  end
  local list, before = wanted[level], seen[level]
  for start = first or 1, #digests - DIGEST + 1, SLICE * DIGEST do
    local count = math.min(SLICE, math.floor((#digests - start + 1) / DIGEST))
    local slice = {struct.unpack(string.rep('c16', count), digests, start)}
    for i = 1, count do
      local digest = slice[i]
      if not before[digest] then
        before[digest] = true
        list[#list + 1] = digest
      end
    end
  end
end

-- Chunks that the caller knows, as levels packed like those of an entry: they are never wanted, nor
-- is what known nodes refer to.
local function leave_out(levels)
  for i, digests in ipairs(cmsgpack.unpack(levels)) do
    want(i - 1, digests)
    wanted[i - 1] = {}
  end
end

local function want_entry(entry)
  for i = 4, #entry do
    want(i - 4, entry[i])
  end
end

-- Takes what is wanted of the levels down to `lowest`, and what nodes refer to. Calls
-- visit(digests, chunks) for slices of it, with the digests as one string; a chunk that is missing
-- is false.
local function expand(lowest, visit)
  local top = -1
  for level in pairs(wanted) do
    top = math.max(top, level)
  end
  for level = top, lowest, -1 do
    local digests = wanted[level] or {}
    wanted[level] = {}
    each_slice(#digests, function(first, last)
      local chunks = redis.call('HMGET', CHUNKS, unpack(digests, first, last))
      for i = 1, level > 0 and #chunks or 0 do
        if chunks[i] then
          want(level - 1, chunks[i], 2)
        end
      end
      if visit then
        visit(table.concat(digests, '', first, last), chunks)
      end
    end)
  end
end
