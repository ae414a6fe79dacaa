-- Keeping a thread short while it grows.
--
-- Of a namespace, its newest checkpoints stay, and all from the oldest one on that these are rebuilt from: with the
-- ends that cut_off.lua notes, a put need not walk through them. What to do is planned before the checkpoint is
-- stored, so that nothing is stored if something that the plan reads cannot be read.
--
-- Needs: retain, cut_off, sweep, trimmed, keys, whole, rows, walk
-- Sets: steps
-- Within plan_trim: trim_plan
-- Gives: plan_trim, trim

-- A put frees chunks only in threads that are looked through quickly: this many rows and chunks.
local QUICK = 20000

-- Plans what trim() does once a checkpoint is stored: to keep the newest `count` checkpoints of its namespace, and
-- that one; with those of the root go the namespaces of the calls that they made. Changes nothing.
local function plan_trim(ns, id, head, count, old_row)
  local own = {id = id, head = head, old_row = old_row}
  local oldest_root = find_oldest_root(count)
  if ns == '' then
    local window = window_of(ns, count, own)
    oldest_root = window[#window].id
  end
  local plan = {removed = {}, namespaces = {}}
  local function add(...)
    local planned = plan_namespace(...)
    plan.namespaces[#plan.namespaces + 1] = planned
    for _, row in ipairs(planned.removed) do
      plan.removed[#plan.removed + 1] = row
    end
  end
  add(ns, count, oldest_root, own)
  if ns == '' then
    each_of_some_namespaces(id, function(other, first_row)
      if is_of_past_call(other, head_of(first_row), oldest_root) then
        add(other, count, oldest_root)
      end
    end)
  end
  if plan.removed[1] then
    steps = QUICK
    check_formats()
  end
  return plan
end

-- Trims as it was planned. Returns the ids of the runs that have no checkpoint left in the thread.
local function trim(plan)
  for _, planned in ipairs(plan.namespaces) do
    for i, row in ipairs(planned.cut) do
      cut_off(row, i == 1 and planned.known or nil)
    end
  end
  local trimmed = ''
  note_removal(function()
    for _, row in ipairs(plan.removed) do
      remove_checkpoint(row)
      trimmed = trimmed .. trimmed_name(split_row(row))
    end
  end)
  if trimmed == '' then
    return {}
  end
  note_trimmed(trimmed)
  local size = redis.call('ZCARD', TIMELINE) + redis.call('ZCARD', WRITES) + redis.call('HLEN', CHUNKS)
  return size <= QUICK and sweep('', 'timeline')[3] or {}
end
