-- Merging the writes of a task with those that it has already.
--
-- Needs: rows
-- Gives: merge_rows

-- Old writes with an index of 0 or more stay as they are; special ones (below 0) are replaced.
local function merge(old, new)
  local replaced, added, kept = {}, {new[1]}, {}
  for i = 2, #new, 3 do
    replaced[new[i]] = new[i] < 0
    kept[new[i]] = true
  end
  local merged = {FORMAT}
  for g = 2, #old do
    local group = {old[g][1]}
    for i = 2, #old[g], 3 do
      local index = old[g][i]
      if not replaced[index] then
        group[#group + 1] = index
        group[#group + 1] = old[g][i + 1]
        group[#group + 1] = old[g][i + 2]
        kept[index] = false
      end
    end
    if #group > 1 then
      merged[#merged + 1] = group
    end
  end
  for i = 2, #new, 3 do
    if kept[new[i]] then
      added[#added + 1] = new[i]
      added[#added + 1] = new[i + 1]
      added[#added + 1] = new[i + 2]
    end
  end
  if #added > 1 then
    merged[#merged + 1] = added
  end
  return merged
end

-- Returns the row that has the writes of both. A call that is repeated leaves the very bytes that it has left.
local function merge_rows(name, old_row, row)
  local old = groups_of(old_row)
  local merged = cmsgpack.pack(merge(old, groups_of(row)[2]))
  return merged == cmsgpack.pack(old) and old_row or with_checksum(name .. '\0' .. merged)
end
