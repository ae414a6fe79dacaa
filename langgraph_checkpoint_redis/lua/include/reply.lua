-- Checkpoints and chunks as readers get them.

-- A reply ends early when it holds this many bytes of chunks, so that no script runs for long.
local BUDGET = 4 * 1024 * 1024

local directory, contents, bytes = {}, {}, 0

-- Adds all that is wanted to the reply. A chunk that is missing is left out: whoever needs it says
-- so, knowing what for.
local function fetch()
  expand(0, function(digest, content)
    if content then
      directory[#directory + 1] = digest .. struct.pack('>I4', #content)
      contents[#contents + 1] = content
      bytes = bytes + #content
    end
  end)
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

-- Two strings: digest and length of each chunk, and their contents in the same order.
local function fetched()
  return table.concat(directory), table.concat(contents)
end
