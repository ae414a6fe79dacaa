-- The closure of values: every chunk that they are made of, each once.
--
-- An entry is {type, literal} or {type, literal, size, level0, level1, ...}, where a level is a
-- string of 16-byte digests. Digests of level 0 name pieces of a value; those of a higher level
-- name nodes, whose content is again a string of digests, of one level less. Every chunk begins with
-- a byte that says how it is stored; nodes are stored as they are.
--
-- Needs: slices, keys
-- Gives: DIGEST, wanted, seen, leave_out, want_entry, expand

local DIGEST = 16

local wanted, seen = {}, {}

local known_trees = {} -- those that the caller knows, as their levels

-- Nodes that the caller knows and no value was seen to have, by level. Where other nodes have replaced them, most
-- of what those refer to is the same: so the caller knows what the replaced ones refer to.
local replaced, REPLACED = {}, 100 -- how many are read at most, of each level
local highest = -1 -- of their levels

-- Sees the digests of a level, from `first` on; the new ones are wanted, unless the caller has them. Nodes
-- that are not may have been replaced, if `may_be_gone`.
local function see(level, digests, first, is_wanted, may_be_gone)
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
        elseif may_be_gone and level > 0 then
          replaced[level] = replaced[level] or {}
          replaced[level][digest] = true
          highest = math.max(highest, level)
        end
      elseif is_wanted and replaced[level] then
        replaced[level][digest] = nil
      end
    end
  end
end

local function want(level, digests, first)
  see(level, digests, first or 1, true)
end

-- Trees that the caller knows, packed as a list of their levels: what they are made of is never wanted.
local function leave_out(trees)
  known_trees = cmsgpack.unpack(trees)
end

-- Where a level has digests that the caller may not know. Most values are the same as a known one, or begin as
-- that does, or the other way round: their digests need not be looked at one by one.
local function unknown_from(level, digests)
  for _, levels in ipairs(known_trees) do
    local known = levels[level + 1] or ''
    if string.sub(known, 1, #digests) == digests then
      levels[-level] = digests ~= ''
      return #digests + 1
    elseif known ~= '' and string.sub(digests, 1, #known) == known then
      levels[-level] = true
      return #known + 1
    end
  end
  return 1
end

-- Sees all that the caller knows, for values that are like no known one, and for nodes, which may refer to it. At
-- -level, a tree says that a value has its nodes of that level.
local function take_known_apart()
  for _, levels in ipairs(known_trees) do
    for i, digests in ipairs(levels) do
      see(i - 1, digests, 1, false, not levels[1 - i])
    end
  end
  known_trees = {}
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

-- Sees what replaced nodes of a level refer to; what was wanted of that is known after all.
local function see_replaced(level)
  local nodes, known, list = {}, {}, {}
  for digest in pairs(replaced[level]) do
    nodes[#nodes + 1] = #nodes < REPLACED and digest or nil
  end
  replaced[level] = nil
  for _, node in ipairs(nodes[1] and redis.call('HMGET', CHUNKS, unpack(nodes, 1, #nodes)) or {}) do
    if node then
      for start = 2, #node - DIGEST + 1, DIGEST do
        known[string.sub(node, start, start + DIGEST - 1)] = true
      end
      see(level - 1, node, 2, false, true)
    end
  end
  for _, digest in ipairs(wanted[level - 1] or {}) do
    list[#list + 1] = not known[digest] and digest or nil
  end
  wanted[level - 1] = list
end

-- Takes what is wanted of the levels down to `lowest`, and what nodes refer to. Calls
-- visit(digests, chunks) for slices of it, with the digests as one string; a chunk that is missing
-- is false. What a node refers to is left out if is_marked(digest) returns true; see live.lua.
local function expand(lowest, visit, is_marked)
  local top = -1
  for level in pairs(wanted) do
    top = math.max(top, level)
  end
  for level = math.max(top, highest), lowest, -1 do
    if replaced[level] then
      see_replaced(level)
    end
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
