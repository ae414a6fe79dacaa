-- Late writers: runs that began before their thread was deleted, and do not know it. For a while after
-- the deletion they are refused, so that nothing of the thread comes back.
--
-- Needs: control, whole, refuse, keys, clock, rows
-- Gives: check_writes, check_checkpoint

local function was_deleted()
  return control.deleted and time_of('deleted') > now()
end

local function refuse_late()
  refuse('DELETED', TIMELINE)
end

-- Raises an error if writes belong to a checkpoint of the deleted thread, or to one that was refused.
local function check_writes(ns, id)
  if was_deleted() and row_exists(ns, id) == 0 then
    if control['late ' .. id] or not is_before(control.newest, id) then
      refuse_late()
    end
  end
end

-- Returns whether a checkpoint that others name belonged to the deleted thread, or was refused. One that is newer may
-- merely not be there yet.
local function belonged_to_deleted(ns, id)
  return row_exists(ns, id) == 0 and (control['late ' .. id] or not is_before(control.newest, id))
end

-- Raises an error if a checkpoint goes on from one of the deleted thread, or belongs to a call that such
-- a one made. Writes that came before it go, and those that come later are known by its id.
local function check_checkpoint(ns, id, head)
  if not was_deleted() or row_exists(ns, id) == 1 then
    return
  end
  local from_parent = head[PARENT] ~= '' and belonged_to_deleted(ns, head[PARENT])
  local from_root = ns ~= '' and head[ROOT] and belonged_to_deleted('', head[ROOT])
  if from_parent or from_root then
    local key = prefix(ns, id)
    note_removal(function()
      redis.call('ZREMRANGEBYLEX', WRITES, '[' .. key .. '\0', '(' .. key .. '\1')
    end)
    set_control('late ' .. id, '1')
    refuse_late()
  end
end
