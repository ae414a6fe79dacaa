-- The closure of values: every chunk that they are made of, each once.
--
-- An entry is {type, literal} or {type, literal, size, level0, level1, ...}, where a level is a
-- string of 16-byte digests. Digests of level 0 name pieces of a value; those of a higher level
-- name nodes, whose content is again a string of digests, of one level less. Every chunk begins with
-- a byte that says how it is stored; nodes are stored as they are.

local DIGEST = 16

local wanted, seen = {}, {}

local is_marked -- whether all that a node refers to is marked already; see live.lua

local known_ropes = {} -- those that the caller knows, as their levels

-- Sees the digests of a level, from `first` on; the new ones are wanted, unless the caller has them.
local function see(level, digests, first, is_wanted)
  if not seen[level] then
    seen[level], wanted[level] = {}, {}
  end
  local list, before = wanted[level], seen[level]
  for start = first, #digests - DIGEST + 1, SLICE * DIGEST do
    local count = math.min(SLICE, math.floor((#digests - start + 1) / DIGEST))
    local slice = {struct.unpack(string.rep('c16', count), digests, start)}
    for i = 1, count do
      local digest = slice[i]
      if not before[digest] then
        before[digest] = true
        if is_wanted then
          list[#list + 1] = digest
        end
      end
    end
  end
end

local function want(level, digests, first)
  see(level, digests, first or 1, true)
end

-- Ropes that the caller knows, packed as a list of their levels: what they are made of is never wanted.
local function leave_out(ropes)
  known_ropes = cmsgpack.unpack(ropes)
end

-- Where a level has digests that the caller may not know. Most values are the same as a known one, or begin as
-- that does, or the other way round: their digests need not be looked at one by one.
local function unknown_from(level, digests)
  for _, levels in ipairs(known_ropes) do
    local known = levels[level + 1] or ''
    if string.sub(known, 1, #digests) == digests then
      return #digests + 1
    elseif known ~= '' and string.sub(digests, 1, #known) == known then
      return #known + 1
    end
  end
  return 1
end

-- Sees all that the caller knows, for values that are like no known one, and for nodes, which may refer to it.
local function take_known_apart()
  for _, levels in ipairs(known_ropes) do
    for i, digests in ipairs(levels) do
      see(i - 1, digests, 1, false)
    end
  end
  known_ropes = {}
end

local function want_entry(entry)
  for i = 4, #entry do
    local level, digests = i - 4, entry[i]
    local first = unknown_from(level, digests)
    if first <= #digests then
      if level > 0 or (first == 1 and #digests > DIGEST) then
        take_known_apart()
      end
      want(level, digests, first)
    end
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
        if chunks[i] and not (is_marked and is_marked(digests[first + i - 1])) then
          want(level - 1, chunks[i], 2)
        end
      end
      if visit then
        visit(table.concat(digests, '', first, last), chunks)
      end
    end)
  end
end
