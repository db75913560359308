# cmake -DSOURCE=DIR -DHEADER=FILE -P commit.cmake: writes the commit of the sources to a header, only if it is another one.
cmake_minimum_required(VERSION 3.24)
execute_process(COMMAND git -C ${SOURCE} describe --always --dirty --abbrev=10 --exclude=* OUTPUT_VARIABLE commit
  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
if(failed)
  set(commit unknown)
endif()
file(CONFIGURE OUTPUT ${HEADER} CONTENT "#pragma once\ninline constexpr const char* kCommit = \"@commit@\";\n" @ONLY)
