-- Checkpoints and chunks as readers get them.

-- A reply ends early when it holds this many bytes of chunks, so that no script runs for long.
local BUDGET = 4 * 1024 * 1024

local digests, contents, bytes = {}, {}, 0

local function add_to_reply(new_digests, new_contents)
  local count = #digests
  for i = 1, #new_digests do
    local content = new_contents[i]
    digests[count + i] = new_digests[i]
    contents[count + i] = content
    bytes = bytes + (content and #content or 0)
  end
end

-- Adds all that is wanted to the reply.
local function fetch()
  expand(0, add_to_reply)
end

-- {row, has_parent, writes}, and fetches what it is made of.
local function whole_row(row)
  local ns, id, offset = place_of(row)
  local head = unpack_known(row, offset)
  local writes = writes_at(ns, id)
  each_value(head, want_entry)
  for _, write in ipairs(writes) do
    each_write(groups_of(write), want_entry)
  end
  fetch()
  local has_parent = head[PARENT] ~= '' and row_exists(ns, head[PARENT]) or 0
  return {row, has_parent, writes}
end

-- The digests of all chunks as one string, and their contents in the same order; a chunk that is
-- missing has none: whoever needs it says so, knowing what for.
local function fetched()
  return table.concat(digests), contents
end
