-- The ancestors that delta channels of a checkpoint are rebuilt from, back to one that has a whole value.

-- Whether an earlier walk came by an ancestor in search of all these channels; notes that this one does.
local function was_walked(walked, id, searched)
  local before, is_all = walked[id] or {}, walked[id] ~= nil
  for channel in pairs(searched) do
    is_all = is_all and before[channel]
    before[channel] = true
  end
  walked[id] = before
  return is_all
end

-- Calls visit(row) for each of them, if there is such a function. Returns whether the first value is there, or
-- the walk came to the beginning; and else the id of the ancestor that is gone. Walks that share a table `walked`
-- visit each ancestor once.
local function needed_ancestors(ns, head, visit, walked)
  local searched, left = {}, 0
  for _, channel in ipairs(head[DELTA] or {}) do
    searched[channel] = true
    left = left + 1
  end
  local function found(_, channel)
    if searched[channel] then
      searched[channel] = nil
      left = left - 1
    end
  end
  each_value(head, found)
  local visited, parent = {}, head[PARENT]
  while left > 0 and parent ~= '' and not visited[parent] do
    if walked and was_walked(walked, parent, searched) then
      return true
    end
    local row = row_at(ns, parent)
    if not row then
      return false, parent
    end
    visited[parent] = true
    if visit then
      visit(row)
    end
    head = head_of(row)
    each_value(head, found)
    parent = head[PARENT]
  end
  return true
end
