-- A checkpoint that is put again takes the place of its row, and stays cut off if it was.
--
-- Needs: keys, rows
-- Within forget_ends: cut_off
-- Gives: replace_checkpoint

-- Returns whether two heads lead to the same ancestors.
local function have_same_ancestors(one, other)
  local is_stored, was_stored = stored_channels(one), stored_channels(other)
  for _, stored in ipairs({is_stored, was_stored}) do
    for channel in pairs(stored) do
      if is_stored[channel] ~= was_stored[channel] then
        return false
      end
    end
  end
  return one[PARENT] == other[PARENT]
end

-- Takes back the ends that were noted in a namespace, as others are right now. It looks at all rows: nobody but a
-- caller who puts something else under an old id has need of it.
local function forget_ends(ns)
  local rows = redis.call('ZRANGEBYLEX', TIMELINE, '[' .. ns .. '\0', '(' .. ns .. '\1')
  for _, row in ipairs(rows) do
    if is_cut_off(row) then
      replace_row(row, row_with_ends(row, {}))
    end
  end
end

-- Removes the old row of a checkpoint, and completes the head of its new one.
local function replace_checkpoint(ns, head, old_row)
  local old_head = head_of(old_row)
  redis.call('ZREM', TIMELINE, old_row)
  head[ENDS] = old_head[ENDS] or head[ENDS]
  if not have_same_ancestors(head, old_head) then
    head[ENDS] = head[ENDS] and {}
    forget_ends(ns)
  end
end
