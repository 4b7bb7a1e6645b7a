# SPDX-License-Identifier: MIT
# What a consumer outside this tree finds: the CMake package `ramferry` (targets ramferry::stream, ::tcp, ::rdma,
# ::migration, ::checkpoint) and the pkg-config module `ramferry`. tests/install builds a consumer of each.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/ramferry)
install(EXPORT ramferry NAMESPACE ramferry:: DESTINATION ${package_dir} FILE ramferryTargets.cmake)
configure_package_config_file(cmake/ramferryConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/ramferryConfig.cmake
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/ramferryConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/ramferryConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/ramferryConfigVersion.cmake
        DESTINATION ${package_dir})

# Static libraries: users name them before what they lean on.
set(RAMFERRY_PC_LIBS "-lramferry_checkpoint -lramferry_migration -lramferry_tcp")
if(TARGET ramferry_rdma)
  string(APPEND RAMFERRY_PC_LIBS " -lramferry_rdma")
  set(RAMFERRY_PC_PRIVATE "-lrdmacm -libverbs")
endif()
string(APPEND RAMFERRY_PC_LIBS " -lramferry_stream ${RAMFERRY_PC_PRIVATE} -lz")
get_target_property(migration_links ramferry_migration LINK_LIBRARIES)
foreach(pair "zstd;zstd;-lzstd")
  list(GET pair 1 library)
  list(GET pair 2 flag)
  if(library IN_LIST migration_links)
    string(APPEND RAMFERRY_PC_LIBS " ${flag}")
  endif()
endforeach()
configure_file(cmake/ramferry.pc.in ${CMAKE_CURRENT_BINARY_DIR}/ramferry.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/ramferry.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
