# SPDX-License-Identifier: MIT
# ramferry_fuzz_target(<name> SOURCE <file> [LIBS lib…])
#   SOURCE defines LLVMFuzzerTestOneInput and ramferry::fuzz::seeds() (tests/fuzz/replay.hpp). Every build gets
#   fuzz_<name>_replay, which runs it over generated inputs and over the files in tests/fuzz/corpus/<name>/, as the
#   CTest entry fuzz_<name>. With RAMFERRY_BUILD_FUZZ there is also the libFuzzer program fuzz_<name>.

function(ramferry_fuzz_target name)
  cmake_parse_arguments(ARG "" "SOURCE" "LIBS" ${ARGN})
  set(replay fuzz_${name}_replay)
  add_executable(${replay} ${ARG_SOURCE})
  target_include_directories(${replay} PRIVATE "${PROJECT_SOURCE_DIR}/tests")
  target_link_libraries(${replay} PRIVATE ramferry_fuzz_replay ${ARG_LIBS} ramferry_build_flags)
  add_test(NAME fuzz_${name} COMMAND ${replay} --corpus "${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name}")
  set_tests_properties(fuzz_${name} PROPERTIES LABELS "unit;fuzz" TIMEOUT 300)

  if(RAMFERRY_BUILD_FUZZ)
    add_executable(fuzz_${name} ${ARG_SOURCE})
    target_include_directories(fuzz_${name} PRIVATE "${PROJECT_SOURCE_DIR}/tests")
    target_link_libraries(fuzz_${name} PRIVATE ramferry::stream ${ARG_LIBS} ramferry_build_flags)
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
  endif()
endfunction()
