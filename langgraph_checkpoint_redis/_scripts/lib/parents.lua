-- What a put checks about the checkpoint that its own one goes on from.
--
-- Needs: refuse, keys, rows
-- Gives: check_moved_on, may_lack_ancestors

-- Returns whether `id` is a checkpoint that goes on from `ancestor`, as far as the next parents tell: each takes some
-- 20 microseconds.
local function goes_on_from(ns, ancestor, id)
  for _ = 1, 250 do
    local row = id ~= ancestor and row_at(ns, id)
    if not row then
      return id == ancestor
    end
    id = head_of(row)[PARENT]
  end
  return false
end

-- Raises an error if the namespace has moved on past the checkpoint's parent. It has not where the parent goes on
-- from the latest checkpoint: the clock behind the ids was ahead then. It has not where the latest belongs to the
-- same step of the root graph either: a subgraph may be called several times in it. Of two runs that do the same
-- step, the root's namespace refuses one.
local function check_moved_on(ns, head)
  local latest = latest_row(ns)
  if not latest or not is_before(head[PARENT], id_of(latest)) then
    return
  end
  local is_same_step = head[ROOT] and head_of(latest)[ROOT] == head[ROOT]
  if not is_same_step and not goes_on_from(ns, id_of(latest), head[PARENT]) then
    refuse('CONFLICT', TIMELINE, head[PARENT], id_of(latest))
  end
end

-- Returns whether a checkpoint has delta channels that may lack an ancestor. Those of the newest checkpoint of a
-- namespace lack none, unless newer ones were deleted: removals keep what it needs. One that is put again loses nothing
-- where its old row was rebuilt from the same ancestors, whatever has become of them.
local function may_lack_ancestors(ns, head, old_row, parent_row, may_lack)
  if not head[DELTA] or head[PARENT] == '' or head[ENDS] then
    return false
  elseif not old_row then
    return not parent_row or parent_row ~= latest_row(ns) or may_lack or is_cut_off(parent_row)
  end
  local old_head = head_of(old_row)
  local was_rebuilt = rebuilt_channels(old_head) or {}
  for channel in pairs(rebuilt_channels(head) or {}) do
    if not was_rebuilt[channel] then
      return true
    end
  end
  return old_head[PARENT] ~= head[PARENT]
end
