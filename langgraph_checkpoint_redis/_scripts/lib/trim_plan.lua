-- Choosing what a put removes from a namespace of its thread, and what it cuts off.
--
-- Needs: retain, cut_off, keys, rows
-- Gives: window_of, plan_namespace, each_of_some_namespaces

-- Removing must not make a put slow: it takes at most this many checkpoints of a namespace, the newest first. Where
-- there are many, each sweep takes long, so a put takes one of so many, to need fewer sweeps.
local MOST, PART, MOST_OF_MANY = 10, 10, 100

-- Namespaces of calls that a put looks at. Where there are more, each put looks at others.
local LOOKED = 100

local function length_of(ns)
  return redis.call('ZLEXCOUNT', TIMELINE, '[' .. ns .. '\0', '(' .. ns .. '\1')
end

-- Returns the newest `count` rows before an id; without one, the newest of all.
local function rows_before(ns, before, count)
  local bound = before and prefix(ns, before) .. '\0' or ns .. '\1'
  return redis.call('ZREVRANGEBYLEX', TIMELINE, '(' .. bound, '[' .. ns .. '\0', 'LIMIT', 0, count)
end

-- Returns the newest `count` checkpoints of a namespace, each with its id and with its row or its head. `own` is the
-- one that is about to be stored there, if it is this namespace.
local function window_of(ns, count, own)
  local window, is_in = {}, not own
  for _, row in ipairs(find_newest_rows(ns, count)) do
    local row_id = id_of(row)
    if not is_in and not is_before(own.id, row_id) then
      window[#window + 1], is_in = own, true
    end
    if not own or row_id ~= own.id then
      window[#window + 1] = {id = row_id, row = row}
    end
  end
  if not is_in then
    window[#window + 1] = own
  end
  window[count + 1] = nil
  return window
end

-- Returns the least id of the ancestors that these checkpoints are rebuilt from, and the ends of each that are sure.
local function least_needed(ns, window, own)
  local least, known = nil, {}
  local function heed(one)
    if one.head or has_delta(one.row) then
      local ends, sure = ends_of(ns, one.head or head_of(one.row), known)
      known[one.id] = sure
      for _, last in pairs(ends) do
        least = least and not is_before(last, least) and least or last
      end
    end
  end
  for i = #window, 1, -1 do -- the oldest first, as the next ones go on from it
    heed(window[i])
  end
  if own and not known[own.id] then
    heed(own)
  end
  return least, known
end

-- Returns the rows from the id `bound` up to before the id `bottom` that were not cut off yet, the newest first. All
-- that are older than one that was cut off are so, too.
local function rows_to_cut_off(ns, bound, bottom, own)
  local found, from, batch = {}, bottom, 2
  while true do
    local rows = rows_before(ns, from, batch)
    for _, row in ipairs(rows) do
      if is_cut_off(row) or is_before(id_of(row), bound) then
        return found
      elseif not own or row ~= own.old_row then
        found[#found + 1] = row
      end
    end
    if #rows < batch then
      return found
    end
    from, batch = id_of(rows[#rows]), 100
  end
end

-- Returns the rows of a namespace to remove once `own` is stored, those to cut off, newest first, and the ends that
-- are known.
local function plan_namespace(ns, count, oldest_root, own)
  local length = length_of(ns) + (own and not own.old_row and 1 or 0)
  local window = window_of(ns, count, own)
  local newest = window[1]
  local is_past = is_of_past_call(ns, newest.head or head_of(newest.row), oldest_root)
  if length <= count and not is_past then
    return {removed = {}, cut = {}}
  end
  local bottom, bound, cut, known = nil, nil, {}, {}
  if not is_past or own then
    local least
    least, known = least_needed(ns, is_past and {} or window, own)
    bottom = not is_past and window[#window].id or nil
    bound = least and (not bottom or is_before(least, bottom)) and least or bottom
    cut = bound ~= bottom and rows_to_cut_off(ns, bound, bottom, own) or {}
  end
  local most, removed = math.max(MOST, math.min(MOST_OF_MANY, math.floor(length / PART))), {}
  for _, row in ipairs(rows_before(ns, bound, most + 1)) do
    if #removed < most and not (own and row == own.old_row) then
      removed[#removed + 1] = row
    end
  end
  return {removed = removed, cut = cut, known = known}
end

-- Calls visit(ns, first_row) for namespaces, `LOOKED` of them at most, from one on that `id` decides.
local function each_of_some_namespaces(id, visit)
  local rows = redis.call('ZCARD', TIMELINE)
  if rows == 0 then
    return
  end
  local first = rows > LOOKED and tonumber(string.sub(redis.sha1hex(id), 1, 8), 16) % rows or 0
  local start = split_row(redis.call('ZRANGE', TIMELINE, first, first)[1])
  local looked, from, has_turned = 0, '[' .. start .. '\0', false
  while looked < LOOKED do
    local row = redis.call('ZRANGEBYLEX', TIMELINE, from, '+', 'LIMIT', 0, 1)[1]
    local ns = row and split_row(row)
    if row and not (has_turned and not is_before(ns, start)) then
      visit(ns, row)
      looked, from = looked + 1, '[' .. ns .. '\1'
    elseif has_turned then
      return
    else
      has_turned, from = true, '-'
    end
  end
end
