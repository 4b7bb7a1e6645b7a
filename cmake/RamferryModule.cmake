# SPDX-License-Identifier: MIT
# ramferry_module(NAME <x> [PUBLIC lib…] [PRIVATE lib…])
#   A library target ramferry_<x> with the alias ramferry::<x>. Its public headers are those under
#   include/; everything in src/ is private and is compiled. PUBLIC libraries are seen by users of the headers,
#   PRIVATE ones by nobody else: that is how the dependency rule is enforced.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
find_package(Threads REQUIRED)

find_program(RAMFERRY_CCACHE ccache)
if(RAMFERRY_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${RAMFERRY_CCACHE}")
endif()

add_library(ramferry_build_flags INTERFACE)
target_compile_options(ramferry_build_flags INTERFACE -Wall -Wextra -Wshadow -Wconversion
                       -Wno-missing-field-initializers  # designated initialisers leave fields out on purpose
                       -Wnon-virtual-dtor -Woverloaded-virtual -fvisibility=hidden)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC bug 105651: std::string::replace warns at -O3.
  target_compile_options(ramferry_build_flags INTERFACE -Wno-restrict)
endif()
if(RAMFERRY_WERROR)
  target_compile_options(ramferry_build_flags INTERFACE -Werror)
endif()
if(RAMFERRY_SANITIZE)
  target_compile_options(ramferry_build_flags INTERFACE -fsanitize=${RAMFERRY_SANITIZE}
                         -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(ramferry_build_flags INTERFACE -fsanitize=${RAMFERRY_SANITIZE})
  if(RAMFERRY_SANITIZE MATCHES "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(ramferry_build_flags INTERFACE -Wno-tsan)  # Asio's fences, which TSan does not model
  endif()
endif()

function(ramferry_module)
  cmake_parse_arguments(ARG "" "NAME" "PUBLIC;PRIVATE" ${ARGN})
  set(target ramferry_${ARG_NAME})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/src/*.cpp")
  add_library(${target} STATIC ${sources})
  add_library(ramferry::${ARG_NAME} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${ARG_NAME} POSITION_INDEPENDENT_CODE ON)
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/include/*.hpp")
  target_sources(${target} PUBLIC FILE_SET HEADERS BASE_DIRS include FILES ${headers})
  target_include_directories(${target} PRIVATE src)
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_link_libraries(${target} PUBLIC ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE} Threads::Threads
                        $<BUILD_INTERFACE:ramferry_build_flags>)
  install(TARGETS ${target} EXPORT ramferry ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
          FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
endfunction()

# ramferry_test(<name> [LIBS lib…] [LABELS label…] [TIMEOUT seconds])
#   One executable <name>_test of all *_test.cpp in the calling folder, run by CTest as one test.
function(ramferry_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "LIBS;LABELS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*_test.cpp")
  if(NOT sources)
    return()
  endif()
  set(target ${name}_test)
  add_executable(${target} ${sources})
  target_compile_features(${target} PRIVATE cxx_std_20)
  target_link_libraries(${target} PRIVATE ${ARG_LIBS} ramferry_build_flags GTest::gmock GTest::gtest_main)
  # Test code is compiled more often than it is waited for; what it tests is optimised as ever.
  if(RAMFERRY_SANITIZE)
    target_compile_options(${target} PRIVATE -O0)
  else()
    target_compile_options(${target} PRIVATE -O1)
  endif()
  add_test(NAME ${name} COMMAND ${target})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT})
endfunction()
