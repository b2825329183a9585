// Pieces of a display mesh's bytes, read one after another: `{data, at}` is where the next begins.

export function bytes(reader, count) {
  reader.at += count;
  return reader.data.slice(reader.at - count, reader.at);
}

export function planes(reader, count, bytes) {
  const values = new Uint32Array(count);
  for (let plane = 0; plane < bytes; plane++) {
    for (let i = 0; i < count; i++) values[i] |= reader.data[reader.at + i] << (8 * plane);
    reader.at += count;
  }
  return values;
}

/** Rows of indices: the first as differences from row to row, the others relative to the first. */
export function indices(reader, count, columns) {
  const rows = new Uint32Array(count * columns);
  for (let column = 0; column < columns; column++) {
    const values = planes(reader, count, 3);
    for (let i = 0, sum = 0; i < count; i++) {
      sum += values[i];
      rows[i * columns + column] = column === 0 ? sum : rows[i * columns] + values[i];
    }
  }
  return rows;
}
