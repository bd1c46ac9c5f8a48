#!/usr/bin/env python3
"""stream.RecordReader, for every way in which a stream may be cut into reads."""

import unittest

import stream

_MARKER = b'<mark> '


def _read(pieces):
    output, records = [], []
    reader = stream.RecordReader(_MARKER, output.append, records.append)
    for piece in pieces:
        reader.feed(piece)
    reader.finish()
    return b''.join(output), records


class RecordReaderTest(unittest.TestCase):

    def test_records_are_told_from_output_however_the_stream_is_cut(self):
        data = b'<mark> begin\none <ma two\n<mark> exit 7\nlate<mar'
        for cut in range(len(data)):
            for size in (1, 3, 100):
                rest = [data[i:i + size] for i in range(cut, len(data), size)]
                output, records = _read([data[:cut], *rest])
                self.assertEqual(output, b'one <ma two\nlate<mar')
                self.assertEqual(records, ['begin', 'exit 7'])

    def test_a_record_may_follow_a_line_without_an_end(self):
        self.assertEqual(_read([b'no newline<mark> exit 0\n']), (b'no newline', ['exit 0']))

    def test_output_is_passed_on_at_once(self):
        output = []
        stream.RecordReader(_MARKER, output.append, None).feed(b'prompt: ')
        self.assertEqual(output, [b'prompt: '])

    def test_bytes_pass_unchanged(self):
        data = bytes(range(256)) * 3
        self.assertEqual(_read([data]), (data, []))

    def test_a_record_cut_off_by_the_end_is_output(self):
        self.assertEqual(_read([b'a<mark> exi']), (b'a<mark> exi', []))


if __name__ == '__main__':
    unittest.main()
