# SPDX-License-Identifier: MIT
# ramferry_fuzz_target(<name> SOURCE <file> [LIBS lib…] [PRIVATE_OF <module>])
#   SOURCE defines LLVMFuzzerTestOneInput and ramferry::fuzz::seeds() (tests/fuzz/replay.hpp). Every build gets
#   fuzz_<name>_replay, which runs it over generated inputs and over those of tests/fuzz/corpus/<name>.txt, as the
#   CTest entry fuzz_<name>. With RAMFERRY_BUILD_FUZZ there is also the libFuzzer program fuzz_<name>: see
#   tests/fuzz/run. PRIVATE_OF: it may include the private headers of that module.

function(ramferry_fuzz_target name)
  cmake_parse_arguments(ARG "" "SOURCE;PRIVATE_OF" "LIBS" ${ARGN})
  set(replay fuzz_${name}_replay)
  add_executable(${replay} ${ARG_SOURCE})
  set(folders "${PROJECT_SOURCE_DIR}/tests")
  if(ARG_PRIVATE_OF)
    list(APPEND folders "${PROJECT_SOURCE_DIR}/${ARG_PRIVATE_OF}/src")
  endif()
  target_include_directories(${replay} PRIVATE ${folders})
  target_link_libraries(${replay} PRIVATE ramferry_fuzz_replay ${ARG_LIBS} ramferry_build_flags)
  add_test(NAME fuzz_${name} COMMAND ${replay} --corpus "${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name}.txt")
  set_tests_properties(fuzz_${name} PROPERTIES LABELS "unit;fuzz" TIMEOUT 1200)

  if(RAMFERRY_BUILD_FUZZ)
    add_executable(fuzz_${name} ${ARG_SOURCE})
    target_include_directories(fuzz_${name} PRIVATE ${folders})
    target_link_libraries(fuzz_${name} PRIVATE ramferry::stream ${ARG_LIBS} ramferry_build_flags)
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    add_dependencies(fuzz_targets ${replay} fuzz_${name})
  endif()
endfunction()
