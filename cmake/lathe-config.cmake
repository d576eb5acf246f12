# find_package(lathe) gives the targets lathe::lathe (the library behind lathe.h) and lathe::command (the compiler), and
#
#     lathe_add_model(TARGET MODEL [options of `lathe compile` …])
#
# which compiles MODEL (.onnx or .lir) at build time into the static library TARGET; its header is TARGET.h, its functions
# are TARGET_init, TARGET_run …
#
#     find_package(lathe REQUIRED)
#     lathe_add_model(fashion fashion.onnx --dim N=1..16)
#     target_link_libraries(app PRIVATE fashion)
include(CMakeFindDependencyMacro)
find_package(ZLIB QUIET) # when the library was built with it
include(${CMAKE_CURRENT_LIST_DIR}/lathe-targets.cmake)

function(lathe_add_model target model)
  get_filename_component(model ${model} ABSOLUTE)
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/lathe-${target})
  file(MAKE_DIRECTORY ${folder})
  add_custom_command(OUTPUT ${folder}/${target}.c BYPRODUCTS ${folder}/${target}.h
    COMMAND lathe::command compile ${model} -o ${folder}/${target}.c --name ${target} ${ARGN}
    DEPENDS ${model} lathe::command COMMENT "lathe: ${target}" VERBATIM)
  add_library(${target} STATIC ${folder}/${target}.c)
  target_include_directories(${target} PUBLIC ${folder})
  target_link_libraries(${target} PRIVATE m)
  if(NOT CMAKE_BUILD_TYPE)
    target_compile_options(${target} PRIVATE -O3)
  endif()
  find_package(OpenMP QUIET COMPONENTS C)
  if(OpenMP_C_FOUND)
    target_link_libraries(${target} PUBLIC OpenMP::OpenMP_C)
  endif()
endfunction()
