# Compile options shared by every target.
add_library(cmir_options INTERFACE)
target_include_directories(cmir_options INTERFACE ${PROJECT_SOURCE_DIR})
if(PROJECT_IS_TOP_LEVEL)  # not for the sources of a project that embeds this one
  target_compile_options(cmir_options INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Werror
    -Wno-missing-field-initializers $<$<CXX_COMPILER_ID:Clang>:-Wno-shadow>)  # clang's also sees a member behind a lambda's parameter
endif()
target_compile_features(cmir_options INTERFACE cxx_std_20)
target_link_libraries(cmir_options INTERFACE fmt::fmt)

if(CMIR_FUZZ)  # coverage feedback everywhere; tests/fuzz links the fuzzer itself
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "CMIR_FUZZ needs clang: set CC=clang-14 CXX=clang++-14 and configure a new build directory")
  endif()
  set(CMIR_SANITIZE "fuzzer-no-link,address,undefined")
endif()
if(CMIR_SANITIZE)
  target_compile_options(cmir_options INTERFACE -fsanitize=${CMIR_SANITIZE} -fno-omit-frame-pointer -g1
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)  # GCC 12 warns of std::regex then, without cause
  target_link_options(cmir_options INTERFACE -fsanitize=${CMIR_SANITIZE})
  if(CMIR_SANITIZE MATCHES "undefined")
    target_compile_options(cmir_options INTERFACE -fno-sanitize-recover=all)
  endif()
endif()
if(CMIR_COVERAGE)
  target_compile_options(cmir_options INTERFACE --coverage -O1)
  target_link_options(cmir_options INTERFACE --coverage)
endif()

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()
