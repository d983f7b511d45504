"""The .nvc stream: header, units, index and checksums. Specified in docs/bitstream.md."""
