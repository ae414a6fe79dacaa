-- The ancestors that delta channels of a checkpoint are rebuilt from: for each channel, back to one that has a whole
-- value, or to the one whose writes were the first.
--
-- Needs: rows
-- Gives: needed_ancestors

-- Returns whether an earlier walk came by an ancestor in search of all these channels. Notes that this one does.
local function was_walked(walked, id, searched)
  local before, is_all = walked[id] or {}, walked[id] ~= nil
  for channel in pairs(searched) do
    is_all = is_all and before[channel]
    before[channel] = true
  end
  walked[id] = before
  return is_all
end

-- Calls visit(row) for each of them, if there is such a function. Returns whether all are there; and else the id of
-- the ancestor that is gone. Walks that share a table `walked`
-- visit each ancestor once.
local function needed_ancestors(ns, head, visit, walked)
  local searched = rebuilt_channels(head) or {}
  local visited, parent = {}, head[PARENT]
  while next(searched) and parent ~= '' and not visited[parent] do
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
    local is_stored = stored_channels(head)
    for channel in pairs(searched) do
      if is_stored[channel] ~= false then
        searched[channel] = nil
      end
    end
    parent = head[PARENT]
  end
  return true
end
